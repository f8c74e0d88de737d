"""Identity of this process: rank, world size, host, CPUs. Alone in reading launchers' variables; makes no MPI calls."""

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.core.printable import safe_message
from runner.host.process import is_typed

# Per launcher: its name, and the variables that hold the number of ranks and this rank's number. The first that is
# set wins: mpirun inside a Slurm job starts its daemons by srun, so Slurm's variables describe those daemons then.
_LAUNCHERS = (
    ("horovodrun --gloo", "HOROVOD_SIZE", "HOROVOD_RANK"),
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpiexec", "PMI_SIZE", "PMI_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)

WITHOUT_MPI = {
    "horovodrun --gloo": "put horovodrun --mpi -np N in its place",
    "torchrun": "put mpirun -np N or horovodrun -np N in its place",
}

# The pause between two cycles of Horovod's background thread, in milliseconds. Its own default of 1 ms takes a good
# part of a core, which a CPU model needs itself; a GPU host has cores to spare and gains from shorter rounds.
_CYCLE_TIME_MS = {"cpu": 10, "cuda": 5}

_WARNINGS: list[str] = []  # of this process, for the report of its job


@dataclass(frozen=True)
class Launch:
    """Launch information of this process before MPI starts. Without a launcher: one process, rank 0."""

    launcher: str
    rank: int
    world_size: int


@dataclass(frozen=True)
class World:
    """This process among the ranks of the job, as MPI reports it."""

    rank: int
    world_size: int
    local_rank: int
    local_size: int
    host: str
    launcher: str
    name: str = ""  # in words; empty if the rank in this world names it

    @property
    def who(self) -> str:
        """The name of this rank in words, for messages."""
        return self.name or f"rank {self.rank} of {self.world_size} on {self.host}"


def detect_launch(environ: Mapping[str, str] = os.environ) -> Launch:
    """Return the launch this process is part of, from the variables of the launchers.

    A command that is typed in a shell is one process, though a launcher may have started the shell (`srun --pty bash`),
    or left its variables there.
    """
    if environ is os.environ and is_typed():
        return Launch("none", 0, 1)
    for launcher, size_name, rank_name in _LAUNCHERS:
        size = environ.get(size_name, "")
        rank = environ.get(rank_name, "0")
        if size.isdecimal() and rank.isdecimal():
            return Launch(launcher, int(rank), int(size))
    if "TORCHELASTIC_RUN_ID" in environ:
        return Launch("torchrun", int(environ["RANK"]), int(environ["WORLD_SIZE"]))
    return Launch("none", 0, 1)


def single_world(launcher: str) -> World:
    """Return the world of a single rank."""
    return World(rank=0, world_size=1, local_rank=0, local_size=1, host=socket.gethostname(), launcher=launcher)


def set_horovod_defaults(device: str, environ: dict[str, str] | os._Environ[str] = os.environ) -> None:
    """Set the variables that Horovod reads when it starts, except those that the user has set.

    Args:
        device: device that the ranks compute on, "cpu" or "cuda".
        environ: the environment to change.
    """
    environ.setdefault("HOROVOD_CYCLE_TIME", str(_CYCLE_TIME_MS[device]))


def set_log_defaults(verbose: int, environ: dict[str, str] | os._Environ[str] = os.environ) -> None:
    """Let Horovod and NCCL log at level info with -vv, unless the user has set theirs; else only problems."""
    if verbose > 1:
        environ.setdefault("HOROVOD_LOG_LEVEL", "info")
        environ.setdefault("NCCL_DEBUG", "INFO")


@contextmanager
def horovod_timeline_at(path: str, environ: dict[str, str] | os._Environ[str] = os.environ) -> Iterator[bool]:
    """Let a Horovod that starts inside write its timeline to `path`; yield False if the user has set another path."""
    if environ.get("HOROVOD_TIMELINE"):
        yield False
        return
    environ["HOROVOD_TIMELINE"] = path
    try:
        yield True
    finally:
        del environ["HOROVOD_TIMELINE"]


def own_addresses() -> dict[str, str]:
    """Return the IPv4 addresses of this host by interface, without the loopback's."""
    import psutil

    return {
        name: address.address
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    }


def shared_memory_bytes(folder: str = "/dev/shm") -> int:
    """Return the free bytes of the shared memory that MPI uses between the ranks of a host; 0 if there is none."""
    try:
        state = os.statvfs(folder)
    except OSError:
        return 0
    return state.f_bavail * state.f_frsize


def job_end(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return when the scheduler will end this job (Slurm tells), in seconds since the epoch; None if it is unknown."""
    value = environ.get("SLURM_JOB_END_TIME", "")
    return float(value) if value.isdecimal() else None


def scheduler_job(environ: Mapping[str, str] = os.environ) -> str:
    """Return the scheduler's number of this job; empty without a scheduler."""
    return next((environ[name] for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID") if environ.get(name)), "")


def idle_tasks(environ: Mapping[str, str] = os.environ) -> str:
    """Return a warning where the scheduler gave the job several tasks, and no launcher started them; else ""."""
    if detect_launch(environ).launcher != "none":
        return ""
    counts = {"Slurm": environ.get("SLURM_NTASKS", ""), "LSF": environ.get("LSB_DJOB_NUMPROC", "")}
    with contextlib.suppress(OSError):
        counts["PBS"] = str(len(Path(environ.get("PBS_NODEFILE", "")).read_text().split()))
    for scheduler, count in counts.items():
        if count.isdecimal() and int(count) > 1:
            how = "srun --mpi=pmix" if scheduler == "Slurm" else "mpirun"
            return f"{scheduler} gave this job {count} tasks, and one process is at work; put {how} before the command"
    return ""


def read_variables(names: Sequence[str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables among `names` that are set and not empty."""
    return {name: environ[name] for name in names if environ.get(name)}


def loaded_libraries(stem: str) -> tuple[str, ...]:
    """Return the loaded files of a shared library, such as "libmpi", of this process; each once, links resolved."""
    with open("/proc/self/maps") as file:
        paths = {line.split(None, 5)[5].rstrip("\n") for line in file if line.count("/")}
    pattern = re.compile(rf"{stem}(_cray|_ibm|_gnu_\d+)?\.so[.\d]*")
    return tuple(sorted({os.path.realpath(path) for path in paths if pattern.fullmatch(os.path.basename(path))}))


def warn(world: World, what: str) -> None:
    """Print a warning on stderr, with or without -v; on rank 0 alone, and only if it is not empty."""
    if world.rank == 0 and what:
        what = safe_message(what)
        _WARNINGS.append(what)
        print(f"runner: warning: {what}", file=sys.stderr, flush=True)


def take_warnings() -> list[str]:
    """Return the warnings of this process since the last call."""
    taken = list(_WARNINGS)
    _WARNINGS.clear()
    return taken
