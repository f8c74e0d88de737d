"""Facts about processes of this host, from the kernel."""

import contextlib
import functools
import os
import time
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

# Beginnings of the names of processes that start ranks: of Open MPI, MPICH, Intel MPI, Slurm, Flux, PALS, LSF, ALPS,
# and of launchers without MPI; of those, modules that Python runs, too.
_LAUNCHERS = (
    *("mpi", "ort", "prte", "prun", "hydra", "pmi", "srun", "slurmstepd", "horovodrun", "torchrun"),
    *("flux", "pals", "jsrun", "jsm", "blaunch", "aprun", "pbs_tmrsh", "accelerate", "deepspeed"),
)
_LAUNCHER_SCRIPTS = ("torchrun", "accelerate", "deepspeed", "horovodrun")  # whose processes may have other names
_LAUNCHER_MODULES = ("torch.distributed.", "accelerate.commands.", "deepspeed.launcher.", "horovod.runner")
_PASSING_ON = ("mpirun", "mpiexec", "mpiexec.hydra", "prterun", "prted", "orted")  # what ranks print
_SHELLS = ("bash", "zsh", "sh", "dash", "ksh", "fish", "tcsh", "csh")
_FIRST_NAMESPACE = "pid:[4026531836]"  # of processes, that of the host and of no container: PROC_PID_INIT_INO


@dataclass(frozen=True)
class _Parent:
    pid: int
    ticks: int  # see `start_ticks`
    name: str
    words: list[str]  # after the first
    has_terminal: bool

    @property
    def is_launcher(self) -> bool:
        is_script = any(os.path.basename(word) in _LAUNCHER_SCRIPTS for word in self.words[:2])
        is_module = any(word.startswith(_LAUNCHER_MODULES) for word in self.words[:4])
        return self.name.startswith(_LAUNCHERS) or is_script or is_module


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


def children_of(pid: int) -> list[int]:
    """Return the processes that a process of this host has started, and that run; none where it has ended."""
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):  # each thread has its own
        with contextlib.suppress(OSError):
            children += map(int, path.read_text().split())
    return children


def is_running(pid: int, ticks: int) -> bool:
    """Return whether the process of this host with this pid and start time runs; a dead one not yet reaped does not."""
    try:
        fields = _stat_fields(pid)
    except OSError:
        return False
    return int(fields[19]) == ticks and fields[0] not in "ZX"


@dataclass(frozen=True)
class Origin:
    """The processes that started a process of this host.

    Attributes:
        pid: the process.
        parent: its parent.
        launcher: the nearest launcher above it, perhaps with the shell of a script between them; 0 where none is seen.
        launcher_ticks: when that started, see `start_ticks`.
    """

    pid: int
    parent: int
    launcher: int = 0
    launcher_ticks: int = 0

    def has_ended(self) -> bool:
        """Return whether the launcher has ended, or, where none is seen, the parent; while the process runs."""
        if self.launcher:
            return not is_running(self.launcher, self.launcher_ticks)
        try:
            return parent_of(self.pid) != self.parent
        except OSError:
            return False


def own_origin() -> Origin:
    """Return the processes that started this one, as they were when this was first asked."""
    return _origin(os.getpid())


def launcher_stderr() -> str:
    """Return the file by which this process can write to the stderr of its mpirun or mpiexec; empty where none is seen.

    On another host than mpirun's it is that of the daemon which ssh has started, and which waits for a detached one.
    """
    launchers = dropwhile(lambda parent: not parent.is_launcher, _parents(os.getpid())[0])
    for launcher in takewhile(lambda parent: parent.name in _PASSING_ON, launchers):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if os.readlink(stderr := f"/proc/{launcher.pid}/fd/2") != os.devnull:
                return stderr
    return ""


def is_on_launchers_host() -> bool:
    """Return whether mpirun, and not a daemon that it has started on another host, is the launcher of this process."""
    launcher = _launcher()
    return launcher is not None and launcher.name in ("mpirun", "mpiexec", "prterun")


@functools.cache
def _origin(pid: int) -> Origin:
    launcher = _launcher()
    return Origin(pid, os.getppid(), *((launcher.pid, launcher.ticks) if launcher else ()))


def _launcher() -> _Parent | None:
    return next((parent for parent in _parents(os.getpid())[0] if parent.is_launcher), None)


def is_typed() -> bool:
    """Return whether this process comes from a shell at a terminal, and from no launcher below that shell."""
    for parent in _parents(os.getpid())[0]:
        if parent.is_launcher:
            return False
        is_interactive = all(word.startswith("-") and word != "-c" for word in parent.words)
        if parent.name in _SHELLS and is_interactive and parent.has_terminal:
            return True
    return False


def has_launcher_above(also: str = "") -> bool | None:
    """Return whether a launcher is above this process; None where not all processes above it can be seen.

    Args:
        also: a further name of a process that counts.
    """
    parents, is_complete = _parents(os.getpid())
    if any(parent.is_launcher or parent.name == also for parent in parents):
        return True
    return False if is_complete else None


@functools.cache
def _parents(pid: int) -> tuple[list[_Parent], bool]:
    """Return the processes above a process, and whether these are all up to the first one of the host."""
    parents = []
    try:
        above = parent_of(pid)
        while above > 1:
            name = Path(f"/proc/{above}/comm").read_text().strip()
            words = Path(f"/proc/{above}/cmdline").read_bytes().decode(errors="replace").split("\0")[1:-1]
            fields = _stat_fields(above)
            parents.append(_Parent(above, int(fields[19]), name, words, fields[4] != "0"))  # field 7, the terminal
            above = int(fields[1])
        return parents, above == 1 and os.readlink("/proc/self/ns/pid") == _FIRST_NAMESPACE
    except OSError:  # a process that has ended, or is hidden
        return parents, False


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from field 3, the state, on; the program's name before it may hold spaces."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()
