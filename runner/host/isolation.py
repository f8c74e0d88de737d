"""Ranks of one host that are in containers of their own, between which Open MPI's shared memory can crash."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.host.allocation import slurm_counts
from runner.host.process import children_of, has_launcher_above, own_origin

_SHARED = "/dev/shm"  # holds the memory that Open MPI shares between ranks
_USE_SHARED = ("sm", "vader")  # names of the transport, of Open MPI 5 and 4
_RANKS = {"mpirun --mca btl self,tcp": "OMPI_COMM_WORLD_RANK", "OMPI_MCA_btl=self,tcp": "SLURM_PROCID"}


def isolated_ranks(environ: Mapping[str, str] = os.environ) -> str:
    """Return a warning where the other ranks of this host, by the launcher's variables, do not share what this has."""
    job, size = environ.get("PMIX_NAMESPACE", ""), _local_size(environ)
    if not job or size < 2 or not _may_share_memory(environ.get("OMPI_MCA_btl", "")):
        return ""
    remedy, name = next((remedy, name) for remedy, name in _RANKS.items() if name in environ)
    rank = environ[name]
    others = list(_other_ranks(job, name, rank))
    if not others and has_launcher_above() is None:
        why = f"rank {rank} sees no process of the other {size - 1} on its host"
    elif any(_is_elsewhere(pid) for pid in others):
        why = f"rank {rank} has another {_SHARED} than others on its host"
    else:
        return ""
    return (
        f"{why}, as in containers of their own. Open MPI's shared memory between such ranks can crash: start them with "
        f"{remedy}, or all ranks of a host in one container"
    )


def _local_size(environ: Mapping[str, str]) -> int:
    """Return the number of ranks on this host, of mpirun's or srun's; 0 where they do not tell."""
    size = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "")
    if size.isdecimal():
        return int(size)
    node = environ.get("SLURM_NODEID", "")
    counts = slurm_counts(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return counts[int(node)] if "SLURM_PROCID" in environ and node.isdecimal() and int(node) < len(counts) else 0


def _may_share_memory(transports: str) -> bool:
    """Return whether Open MPI may choose its shared memory, by its parameter btl: names, or after ^ those left out."""
    names = transports.lstrip("^").split(",")
    is_named = any(name in _USE_SHARED for name in names)
    return not is_named if transports.startswith("^") else is_named or not transports


def _other_ranks(job: str, name: str, rank: str) -> Iterator[int]:
    """Yield the processes of other ranks of this job that can be seen from here: below the launcher, if it is seen.

    Args:
        job: PMIx's name of it.
        name: the variable with a rank's number.
        rank: the number of this one.
    """
    launcher = own_origin().launcher
    pids = children_of(launcher) if launcher else [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    while pids:
        pid = pids.pop()
        variables: dict[str, str] = {}
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
            variables = dict(word.partition("=")[::2] for word in words)
        if variables.get("PMIX_NAMESPACE") == job and name in variables:
            if variables[name] != rank:
                yield pid
        elif launcher:  # such as the program that starts a container
            pids += children_of(pid)


def _is_elsewhere(pid: int) -> bool:
    try:
        return not os.path.samefile(f"/proc/{pid}/root{_SHARED}", _SHARED)
    except OSError:
        return False
