"""Check of a real batch on every rank: whether the model loads and runs, whether all ranks agree, and their speed.

Ranks that hold the model together compute it together; then their groups must agree.
"""

import dataclasses
import time

import numpy as np
import torch

from runner.chunks.grid import Grid
from runner.comm import Comm
from runner.commands.doctor.finding import OK, WARNING, Finding
from runner.config.options import Config
from runner.core.errors import RunnerError
from runner.core.text import duration, plural, rate
from runner.engine.baseline import time_batch
from runner.engine.canary import EQUAL
from runner.host.launch import detect_launch
from runner.job.checks import compute_first_row, start_canary
from runner.job.context import Session
from runner.job.dataset import digest_on_all, open_dataset
from runner.job.model import load_model
from runner.job.session import join_group, quiet_session
from runner.sinks import find_writer


def check_batch(config: Config, comm: Comm, device: torch.device) -> list[Finding]:
    """Compute a batch on every rank and compare the results; every rank calls this.

    Members of a model-parallel group other than its leader find nothing.

    Raises:
        RunnerError: the error of a job in this case; on every rank alike.
    """
    if config.model_parallel == 1:
        return _check(quiet_session(config, comm, device), "")
    group = join_group(dataclasses.replace(config, comm="mpi"), detect_launch(), comm)
    session = quiet_session(config, comm, device, group)
    if group.leaders is None:
        group.serve(session.stats, session.timeline, session.watchdog.main)
        return []
    try:
        findings = _check(session, f", by groups of {config.model_parallel} ranks")
    except RunnerError as error:
        if error.shared:
            group.end(error)
        raise
    group.end(None)
    return findings


def _check(session: Session, by_whom: str) -> list[Finding]:
    comm = session.comm
    batch_size = session.config.batch_size
    source = open_dataset(session)
    digest_on_all(session, source)
    began = time.perf_counter()
    loaded = load_model(session, source)
    load_seconds = time.perf_counter() - began
    if not source.num_rows:
        return [Finding("batch", WARNING, f"model loaded; {session.config.data} has no rows")]
    model = compute_first_row(session, source, loaded)
    if output := session.config.output:
        comm.on_each(lambda: find_writer(output, model.row_type))
    canary = start_canary(session, source, model)
    answers = canary.says if canary and canary.says else EQUAL
    grid = Grid(source.num_rows, batch_size, batch_size)
    rows = min(batch_size, source.num_rows)
    seconds = np.array(comm.gather_all(comm.on_each(lambda: time_batch(source, grid, model.predictor))))
    rows_per_second = float((rows / seconds).sum())
    figures = {"load_seconds": load_seconds, "batch_seconds": seconds.tolist(), "rows_per_second": rows_per_second}
    words = (
        f"{plural(source.num_rows, 'row')}; model loaded in {duration(load_seconds)}; a batch of {rows} in "
        f"{duration(seconds.min())} to {duration(seconds.max())}, {rate(rows_per_second)} together{by_whom}; "
        f"answers: {answers}"
    )
    return [Finding("batch", OK if answers == EQUAL else WARNING, words, figures=figures)]
