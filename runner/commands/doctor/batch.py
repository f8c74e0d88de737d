"""Check of a real batch on every rank: whether the model loads and runs, whether all ranks agree, and their speed.

Ranks that hold the model together compute it together; then their groups must agree.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from runner.chunks.grid import Grid
from runner.comm import Comm
from runner.comm.watchdog import Activity
from runner.commands.doctor.finding import OK, WARNING, Finding
from runner.config.options import Config
from runner.core.errors import InputError, RunnerError
from runner.core.text import duration, plural, rate
from runner.data.rows import row_bytes_of
from runner.engine.canary import EQUAL, Canary
from runner.engine.probing import probe
from runner.engine.reader import BatchReader, open_data
from runner.host.launch import detect_launch
from runner.job.model import assemble
from runner.telemetry.stats import RankStats
from runner.telemetry.timeline import Timeline

_TIMES = 3


def check_batch(config: Config, comm: Comm, device: torch.device) -> list[Finding]:
    """Compute a batch on every rank and compare the results; every rank calls this.

    Raises:
        RunnerError: the error of a job in this case; on every rank alike.
    """
    return _check_split(config, comm) if config.model_parallel > 1 else _check(config, comm, device, "")


def _check_split(config: Config, everyone: Comm) -> list[Finding]:
    """Check a batch where groups of ranks hold the model; members of a group other than its leader find nothing."""
    from runner.parallel.member import GroupMember  # a slow import, because of PyTorch's distributed tensors

    part = GroupMember(dataclasses.replace(config, comm="mpi"), detect_launch(), everyone)
    if part.leaders is None:
        world = everyone.world
        part.serve(RankStats(world.rank, world.host, str(part.device), part.threads), Timeline(0.0), Activity())
        return []
    groups = f", by groups of {config.model_parallel} ranks"
    try:
        findings = _check(config, part.leaders, part.device, groups, part.build)
    except RunnerError as error:
        if error.shared:
            part.end(error)
        raise
    part.end(None)
    return findings


def _check(
    config: Config,
    comm: Comm,
    device: torch.device,
    by_whom: str,
    build: Callable[[], tuple[Callable[..., Any], str]] | None = None,
) -> list[Finding]:
    source = open_data(config, comm)
    began = time.perf_counter()
    predictor, _ = assemble(config, comm, source, device, build)
    load_seconds = time.perf_counter() - began
    if not source.num_rows:
        return [Finding("batch", WARNING, f"model loaded; {config.data} has no rows")]
    row_type, row = probe(comm, predictor, source, 1)
    assert row is not None
    canary = Canary(comm, predictor, source, row, config.batch_size, row_bytes_of(row_type))
    answers = canary.compare(config.stateful == "keep")
    grid = Grid(source.num_rows, config.batch_size, config.batch_size)
    ids = range(min(config.batch_size, source.num_rows))

    def run() -> float:
        seconds = []
        for _ in range(_TIMES):
            reader = BatchReader(source, grid, predictor.batching)
            began = time.perf_counter()
            for part in reader.read(grid.chunk(0), 0, len(ids)):
                if isinstance(part.rows, InputError):
                    raise part.rows
                predictor.forward(predictor.prepare(part.rows, part.ids), part.ids)
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    seconds = np.array(comm.gather_all(comm.on_each(run)))
    rows_per_second = float((len(ids) / seconds).sum())
    figures = {"load_seconds": load_seconds, "batch_seconds": seconds.tolist(), "rows_per_second": rows_per_second}
    words = (
        f"{plural(source.num_rows, 'row')}; model loaded in {duration(load_seconds)}; a batch of {len(ids)} in "
        f"{duration(seconds.min())} to {duration(seconds.max())}, {rate(rows_per_second)} together{by_whom}; "
        f"answers: {answers}"
    )
    return [Finding("batch", OK if answers == EQUAL else WARNING, words, figures=figures)]
