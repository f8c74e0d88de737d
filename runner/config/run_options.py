"""Options that say how the ranks share the work, and when they give up."""

from dataclasses import dataclass

from runner.config.collect_modes import COLLECT_MODES
from runner.config.option import ANSWER, NOTHING, SPEED, option


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options that say how the ranks share the work, and when they give up."""

    schedule: str = option(
        "static",
        "work",
        "even shares (static), or the next rows for a free rank (dynamic)",
        affects=SPEED,
        choices=("static", "dynamic"),
    )
    collect: str = option(
        "allgather",
        "work",
        "how predictions reach the output: allgather, alltoall (to rank 0), direct (ranks write one file), "
        "shards (ranks write a folder)",
        affects=SPEED,
        choices=tuple(COLLECT_MODES),
    )
    comm: str = option(
        "horovod",
        "work",
        "library that carries messages between ranks: Horovod, or mpi4py where Horovod is not installed",
        affects=SPEED,
        choices=("horovod", "mpi"),
    )
    device: str = option(
        "auto",
        "work",
        "where the model runs; auto: a GPU of this rank where PyTorch sees one, else the CPU",
        affects=SPEED,
        choices=("auto", "cpu", "cuda"),
    )
    threads: int | None = option(
        None, "work", "CPU threads per rank; by default a fair share of the host", metavar="N", affects=SPEED, minimum=1
    )
    on_error: str = option(
        "stop",
        "work",
        "for a row that fails: stop, or set it aside (quarantine) and continue",
        affects=SPEED,
        choices=("stop", "quarantine"),
    )
    on_nonfinite: str = option(
        "keep",
        "work",
        "for a row with NaN or infinity in its predictions: keep and count it, or set it aside (quarantine)",
        affects=ANSWER,
        choices=("keep", "quarantine"),
    )
    max_bad: int | None = option(
        None, "work", "stop when more rows than this are set aside", metavar="ROWS", affects=SPEED, minimum=0
    )
    time_limit: int | None = option(
        None,
        "work",
        "stop early enough to end this long after the start; finished chunks are kept",
        metavar="H:MM:SS|SECONDS",
        affects=NOTHING,
        minimum=1,
    )
