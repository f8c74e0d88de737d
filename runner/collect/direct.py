"""Output that each rank writes by itself: checks whether that is safe, and opens and closes the sinks.

A folder is safe wherever the ranks share a file system: each file belongs to one rank. A single file is safe on one
host, whose ranks share a page cache: adjacent rows in a page cannot overwrite one another. Clients of NFS on several
hosts write back entire pages. Lustre and GPFS keep the clients' caches coherent.
"""

from collections.abc import Mapping
from pathlib import Path

from runner.chunks.grid import Grid
from runner.comm import Comm
from runner.core.errors import OutputError, UsageError
from runner.data.rows import RowTypes
from runner.host.filesystem import file_system
from runner.sinks import Sink, open_sink

_COHERENT = ("lustre", "gpfs")


def open_direct(comm: Comm, output: str, grid: Grid, row_type: RowTypes, origin: Mapping[str, str]) -> Sink | None:
    """Open the sink of this rank, after rank 0 has opened the output; return None on rank 0, which already has one.

    Args:
        comm: the ranks; each calls this.
        output: the final name.
        grid, row_type: partition and row type of the complete output.
        origin: what the output says of its origin.

    Raises:
        UsageError: the ranks may not write into one file together.
        OutputError: a host sees another file than rank 0 does, or the storage failed.
    """
    if not grid.shard_chunks:
        comm.on_root(lambda: _check_file_system(comm, output))
    lock = comm.bcast(_lock(output))
    return comm.on_each(lambda: None if comm.world.rank == 0 else _open(output, grid, row_type, origin, lock))


def close_direct(comm: Comm, sink: Sink | None) -> None:
    """Flush the rows that a rank has written to the storage, and close its sink, if it has one; every rank calls this.

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
            f"one another's rows. It works on one host, or on {' or '.join(_COHERENT)}; otherwise use shards or "
            "alltoall"
        )


def _open(output: str, grid: Grid, row_type: RowTypes, origin: Mapping[str, str], lock: str) -> Sink:
    if not lock or _lock(output) != lock:
        raise OutputError(f"{output} is not on a file system that this host shares with rank 0's")
    return open_sink(output, grid, row_type, origin)


def _lock(output: str) -> str:
    """Read the lock of the output, by which a host knows that it sees the same file; empty if there is none."""
    try:
        return Path(f"{output}.run/lock").read_text()
    except OSError:
        return ""
