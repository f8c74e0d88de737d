"""Facts about processes of this host, from the kernel."""

import contextlib
import functools
import os
import time
from pathlib import Path

# Beginnings of the names of processes that start ranks: of Open MPI, MPICH, Intel MPI, Slurm, Flux, PALS, LSF, ALPS.
_LAUNCHERS = (
    *("mpi", "ort", "prte", "prun", "hydra", "pmi", "srun", "slurmstepd", "horovodrun", "torchrun"),
    *("flux", "pals", "jsrun", "jsm", "blaunch", "aprun", "pbs_tmrsh"),
)
_SHELLS = ("bash", "zsh", "sh", "dash", "ksh", "fish", "tcsh", "csh")


def peak_rss_bytes() -> int:
    """Return the most memory this process has held, as the kernel counts it, in bytes."""
    with open("/proc/self/status") as file:  # getrusage would also count memory from before exec
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024


def process_start() -> float:
    """Return when this process started, in seconds since the epoch."""
    age_seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks(os.getpid()) / os.sysconf("SC_CLK_TCK")
    return time.time() - age_seconds


def start_ticks(pid: int) -> int:
    """Return when a process of this host started, in clock ticks since boot; pid and start together identify a process.

    Raises:
        OSError: there is no such process.
    """
    return int(_stat_fields(pid)[19])  # field 22


def parent_of(pid: int) -> int:
    """Return the parent of a process of this host.

    Raises:
        OSError: there is no such process.
    """
    return int(_stat_fields(pid)[1])


def is_running(pid: int, ticks: int) -> bool:
    """Return whether the process of this host with this pid and start time runs; a dead one not yet reaped does not."""
    try:
        fields = _stat_fields(pid)
    except OSError:
        return False
    return int(fields[19]) == ticks and fields[0] not in "ZX"


@functools.cache
def is_typed() -> bool:
    """Return whether this process comes from a shell at a terminal, and from no launcher below that shell."""
    pid = os.getppid()
    with contextlib.suppress(OSError):  # a process that has ended, or is hidden
        while pid > 1:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name.startswith(_LAUNCHERS):
                return False
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[1:-1]
            is_interactive = all(word.startswith("-") and word != "-c" for word in words)
            if name in _SHELLS and is_interactive and _stat_fields(pid)[4] != "0":  # field 7, the terminal
                return True
            pid = parent_of(pid)
    return False


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from field 3, the state, on; the program's name before it may hold spaces."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()
