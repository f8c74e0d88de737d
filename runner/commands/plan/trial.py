"""A few chunks of a job, computed in this process alone: the cost of loading the model, and its speed.

Nothing is written, and only the data of these chunks are read.
"""

import dataclasses
import time
from dataclasses import dataclass

import psutil
import torch

from runner.chunks.grid import Grid
from runner.comm.single import SingleComm
from runner.comm.workers import share_threads
from runner.config.options import Config
from runner.data.rows import RowType, RowTypes, row_bytes_of
from runner.engine.baseline import Speed, measure_single_rank
from runner.engine.reader import make_grid
from runner.host.devices import device_kind, keep_freed_memory, local_device
from runner.host.process import peak_rss_bytes, process_start
from runner.job.checks import compute_first_row
from runner.job.compute import make_engine
from runner.job.model import load_model
from runner.job.session import quiet_session
from runner.sources import Source


@dataclass(frozen=True)
class Trial:
    """The measurements of a trial, in bytes and seconds.

    Attributes:
        grid: the partition of the job's rows.
        row_type: row type of the predictions.
        output_row_bytes: average bytes of a prediction; a guess for variable-length rows where none was computed.
        weights: digest of the weights.
        threads: number of CPU threads used.
        startup_seconds: seconds from the start of this process to the first chunk.
        rows: number of rows timed.
        rows_per_second: rows per second of one rank; None where it could not be measured.
        model_bytes: growth of this process by loading the model.
        peak_bytes: peak of this process, including loading on rank 0.
        held_bytes: memory of this process during computation.
        batch_bytes: the part of it taken by a batch, on the device; 0 where none was computed.
    """

    grid: Grid
    row_type: RowTypes
    output_row_bytes: float
    weights: str
    threads: int
    startup_seconds: float
    rows: int
    rows_per_second: float | None
    model_bytes: int
    peak_bytes: int
    held_bytes: int
    batch_bytes: int

    @property
    def output_bytes(self) -> int:
        """The bytes of all predictions."""
        return round(self.grid.num_rows * self.output_row_bytes)


def lacks_gpu(config: Config) -> bool:
    """Return whether the job is for GPUs and this host has none."""
    return device_kind(config) == "cuda" and not torch.cuda.is_available()


def try_out(config: Config, source: Source, threads: int, measure: bool) -> Trial:
    """Load the model and, with `measure`, compute some chunks; with `threads` CPU threads.

    Raises:
        InputError, ModelError, UsageError: the errors of a job in this case.
    """
    comm = SingleComm()
    threads = share_threads(dataclasses.replace(config, threads=threads), comm)
    device = torch.device("cpu") if lacks_gpu(config) else local_device(config, comm.world.local_rank)
    session = quiet_session(config, comm, device)
    before = psutil.Process().memory_info().rss
    loaded = load_model(session, source)
    model_bytes = max(0, psutil.Process().memory_info().rss - before)
    model = compute_first_row(session, source, loaded)
    grid = make_grid(config, source, model.row_type, model.predictor.ignored)
    startup_seconds = time.time() - process_start()
    keep_freed_memory(device)
    held = _held(device)
    speed = measure_single_rank(make_engine(session, source, model, grid)) if measure else Speed()
    is_known = isinstance(model.row_type, RowType) or not speed.rows
    return Trial(
        grid=grid,
        row_type=model.row_type,
        output_row_bytes=row_bytes_of(model.row_type) if is_known else speed.output_bytes / speed.rows,
        weights=model.digest,
        threads=threads,
        startup_seconds=startup_seconds,
        rows=speed.rows,
        rows_per_second=speed.rows_per_second,
        model_bytes=model_bytes,
        peak_bytes=peak_rss_bytes(),
        held_bytes=psutil.Process().memory_info().rss,
        batch_bytes=max(0, _most_held(device) - held) if speed.rows else 0,
    )


def _held(device: torch.device) -> int:
    """Return the bytes of the device's memory that this process holds now."""
    return torch.cuda.memory_allocated() if device.type == "cuda" else psutil.Process().memory_info().rss


def _most_held(device: torch.device) -> int:
    """Return the peak of these bytes during computation; on the CPU freed memory stays with the process."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else psutil.Process().memory_info().rss
