"""The story of a job, in its stages."""

from typing import Any

from runner.config.options import Config, make_config
from runner.job.checks import compare_answers, compute_first_row
from runner.job.compute import compute_chunks
from runner.job.dataset import open_dataset
from runner.job.fingerprint import take_fingerprint
from runner.job.finish import finish, serve
from runner.job.model import load_model
from runner.job.output import open_output
from runner.job.session import open_session
from runner.telemetry.report import Report


def predict(**options: Any) -> Report:
    """Run one prediction job with the ranks this process was launched with; every rank calls it alike.

    Args:
        options: the fields of `runner.config.options.Config`. `model` may be a function that returns an `nn.Module`,
            `data` an array, `output` None: then rank 0 finds the predictions in the report.

    Returns:
        The report, on every rank. Where its `status` is "stopped", a signal or the time limit has ended the job before
        the output was complete; the same call resumes it.

    Raises:
        RunnerError: on every rank alike. An error on one rank alone ends the job, with exit code and message.
    """
    return run(make_config(options))


def run(config: Config) -> Report:
    """Run one prediction job; see `predict`."""
    with open_session(config) as session:
        if session.group and session.group.leaders is None:
            return serve(session)  # the first rank of its group leads
        source = open_dataset(session)
        fingerprint = take_fingerprint(session, source)
        model = compute_first_row(session, source, load_model(session, source))
        canary = compare_answers(session, source, model)
        work = open_output(session, source, fingerprint, model, canary)
        computed = compute_chunks(session, source, model, work)
        return finish(session, source, fingerprint, canary, work, computed)
