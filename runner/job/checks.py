"""The fifth stage of a job: compute a first row, and compare the ranks' answers to it."""

from runner.data.rows import row_bytes_of
from runner.engine.canary import EQUAL, Canary
from runner.engine.probing import probe
from runner.host.launch import warn
from runner.job.context import LoadedModel, ProvenModel, Session
from runner.sources import Source

_TRIES = 1000  # rows to try until one works, where bad rows are set aside


def compute_first_row(session: Session, source: Source, model: LoadedModel) -> ProvenModel:
    """Compute a first row, which shows the type of all rows of predictions; every rank that computes calls it.

    Raises:
        InputError, ModelError, UsageError: on every rank alike.
    """
    session.phases.begin("checks", "computing the first row and the canary")
    tries = _TRIES if session.config.on_error == "quarantine" else 1
    row_type, row = probe(session.comm, model.predictor, source, tries)
    return ProvenModel(model.predictor, model.digest, row_type, row)


def start_canary(session: Session, source: Source, model: ProvenModel) -> Canary | None:
    """Compare the ranks' answers to the first row; None where there is none. Every rank that computes calls it.

    Raises:
        ModelError, RunnerError: see `Canary`; on every rank alike.
    """
    if model.good_row is None:
        return None
    config = session.config
    row_bytes = row_bytes_of(model.row_type)
    canary = Canary(session.comm, model.predictor, source, model.good_row, config.batch_size, row_bytes)
    canary.compare(may_change=config.stateful == "keep")
    return canary


def compare_answers(session: Session, source: Source, model: ProvenModel) -> Canary | None:
    """Start the canary, and warn where answers differ; see `start_canary`."""
    canary = start_canary(session, source, model)
    says = canary.says if canary else ""
    warn(session.comm.world, says if says != EQUAL else "")
    called_with = model.predictor.called_with
    session.phases.end(f"canary: {says or 'nothing to compare'}; the model is called with {called_with}")
    return canary
