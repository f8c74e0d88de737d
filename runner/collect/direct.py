"""Ranks that write their rows into the output themselves: where that is safe, and with what.

Into a folder it is safe wherever they share a file system: each file is one rank's. Into one file it is on one host,
whose ranks share a page cache: rows that lie side by side in a page cannot overwrite one another. Clients of NFS on
several hosts write back whole pages. Lustre and GPFS keep the clients' caches coherent.
"""

from pathlib import Path

from runner.chunks.grid import Grid
from runner.comm import Comm
from runner.core.errors import OutputError, UsageError
from runner.data.rows import RowTypes
from runner.host.filesystem import file_system
from runner.sinks import Sink, open_sink

_COHERENT = ("lustre", "gpfs")


def open_direct(comm: Comm, output: str, grid: Grid, row_type: RowTypes) -> Sink | None:
    """What a rank writes its rows with, once rank 0 has opened the output; None on rank 0, which has it.

    Args:
        comm: the ranks; each calls this.
        output: the final name.
        grid, row_type: of the whole output.

    Raises:
        UsageError: the ranks may not write into one file together.
        OutputError: a host sees another file than rank 0 does, or the storage failed.
    """
    if not grid.shard_chunks:
        comm.on_root(lambda: _check_file_system(comm, output))
    lock = comm.bcast(_lock(output))
    return comm.on_each(lambda: None if comm.world.rank == 0 else _open(output, grid, row_type, lock))


def close_direct(comm: Comm, sink: Sink | None) -> None:
    """Make what a rank has written survive a crash, and let go of it; every rank calls this, with what it was given.

    Raises:
        OutputError: the storage failed.
    """

    def close() -> None:
        if sink is not None:
            sink.sync()
            sink.close()

    comm.on_each(close)


def _check_file_system(comm: Comm, output: str) -> None:
    kind = file_system(Path(output).parent)
    if comm.world.local_size < comm.world.world_size and kind not in _COHERENT:
        raise UsageError(
            f"--collect direct: the ranks are on several hosts, and {output} is on {kind}, where hosts may overwrite "
            f"one another's rows. It works on one host, or on {' or '.join(_COHERENT)}; else take shards or alltoall"
        )


def _open(output: str, grid: Grid, row_type: RowTypes, lock: str) -> Sink:
    if not lock or _lock(output) != lock:
        raise OutputError(f"{output} is not on a file system that this host shares with rank 0's")
    return open_sink(output, grid, row_type)


def _lock(output: str) -> str:
    """What is in the lock of the output; by it a host knows that it sees the same file."""
    try:
        return Path(f"{output}.run/lock").read_text()
    except OSError:
        return ""
