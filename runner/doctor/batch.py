"""One real batch on every rank: is the model loaded, does it run, do all agree, how fast is it?"""

import time

import numpy as np
import torch

from runner.assembly import assemble
from runner.canary import EQUAL, Canary
from runner.comm import Comm
from runner.config import Config
from runner.doctor.finding import OK, WARNING, Finding
from runner.inputs import open_data
from runner.rows import row_bytes_of

_TIMES = 3


def check_batch(config: Config, comm: Comm, device: torch.device) -> list[Finding]:
    """Every rank calls it.

    Raises:
        RunnerError: on every rank alike, as a job would.
    """
    source = open_data(config, comm)
    began = time.perf_counter()
    inference, _ = assemble(config, comm, source, device)
    load_seconds = time.perf_counter() - began
    if not source.num_rows:
        return [Finding("batch", WARNING, f"the model is loaded; there are no rows in {config.data}")]
    row_type, row = comm.on_root(lambda: inference.probe(source, 1))
    assert row is not None
    says = Canary(comm, inference, source, row, config.batch_size, row_bytes_of(row_type)).compare()
    ids = range(min(config.batch_size, source.num_rows))

    def run() -> float:
        seconds = []
        for _ in range(_TIMES):
            began = time.perf_counter()
            inference.forward(inference.prepare(source.read(0, len(ids)), ids), ids)
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    seconds = np.array(comm.gather_all(comm.on_each(run)))
    rows_per_second = float((len(ids) / seconds).sum())
    figures = {"load_seconds": load_seconds, "batch_seconds": seconds.tolist(), "rows_per_second": rows_per_second}
    words = (
        f"{source.num_rows:,} rows; model loaded in {load_seconds:.1f} s; a batch of {len(ids)} in {seconds.min():.3g} "
        f"to {seconds.max():.3g} s, {rows_per_second:,.0f} rows/s together; answers: {says}"
    )
    return [Finding("batch", OK if says == EQUAL else WARNING, words, figures=figures)]
