"""Ranks of one host that are in containers of their own, between which Open MPI's shared memory can crash."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.host.process import has_launcher_above

_SHARED = "/dev/shm"  # holds the memory that Open MPI shares between ranks
_USE_SHARED = ("sm", "vader")  # names of the transport, of Open MPI 5 and 4


def isolated_ranks(environ: Mapping[str, str] = os.environ) -> str:
    """Return a warning where the other ranks of this host, by mpirun's variables, do not share what this one has."""
    size, rank = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", ""), environ.get("OMPI_COMM_WORLD_RANK", "")
    if not size.isdecimal() or int(size) < 2 or not _may_share_memory(environ.get("OMPI_MCA_btl", "")):
        return ""
    others = list(_other_ranks(environ.get("PMIX_NAMESPACE", ""), rank))
    if not others and has_launcher_above() is None:
        why = f"rank {rank} sees no process of the other {int(size) - 1} on its host"
    elif any(_is_elsewhere(pid) for pid in others):
        why = f"rank {rank} has another {_SHARED} than others on its host"
    else:
        return ""
    return (
        f"{why}, as in containers of their own. Open MPI's shared memory between such ranks can crash: start them with "
        "mpirun --mca btl self,tcp, or all ranks of a host in one container"
    )


def _may_share_memory(transports: str) -> bool:
    """Return whether Open MPI may choose its shared memory, by its parameter btl: names, or after ^ those left out."""
    names = transports.lstrip("^").split(",")
    is_named = any(name in _USE_SHARED for name in names)
    return not is_named if transports.startswith("^") else is_named or not transports


def _other_ranks(job: str, rank: str) -> Iterator[int]:
    """Yield the processes of other ranks of this job that can be seen from here."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            variables = dict(word.partition("=")[::2] for word in (entry / "environ").read_text().split("\0"))
            if job and variables.get("PMIX_NAMESPACE") == job and variables.get("OMPI_COMM_WORLD_RANK") != rank:
                yield int(entry.name)


def _is_elsewhere(pid: int) -> bool:
    try:
        return not os.path.samefile(f"/proc/{pid}/root{_SHARED}", _SHARED)
    except OSError:
        return False
