"""Identity of this process: rank, world size, host. Alone in reading launchers' variables; makes no MPI calls.

Schedulers' variables are those of `scheduler.py`.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from runner.core.messages import tell
from runner.core.printable import safe_message
from runner.host.process import is_typed

# Per launcher: its name, and the variables that hold the number of ranks and this rank's number. The first that is
# set wins: mpirun inside a Slurm job starts its daemons by srun, so Slurm's variables describe those daemons then.
_LAUNCHERS = (
    ("horovodrun --gloo", "HOROVOD_SIZE", "HOROVOD_RANK"),
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpirun_rsh", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("mpiexec", "PMI_SIZE", "PMI_RANK"),
    ("jsrun", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),
    ("flux run", "FLUX_JOB_SIZE", "FLUX_TASK_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
_PALS = "mpiexec of PALS"
_SILENT_PALS = "mpiexec of PALS without PMI_SIZE"

_BY_MPI = "put mpirun -np N or horovodrun -np N in its place"
WITHOUT_MPI = {
    "horovodrun --gloo": "put horovodrun --mpi -np N in its place",
    "torchrun": _BY_MPI,
    "accelerate launch": _BY_MPI,
    "deepspeed": _BY_MPI,
    "a launcher of PyTorch processes (MASTER_ADDR, RANK and WORLD_SIZE are set)": _BY_MPI,
    _SILENT_PALS: "put mpiexec --pmi=cray (Cray MPICH), or Open MPI's own mpirun, in its place",
}
# What starts ranks that MPI sees, where the launcher at hand has started processes without it.
_FITTING = {
    "flux run": "use flux run -o pmi=pmix (Open MPI, with the plug-in flux-pmix), or an MPI library built on MPICH",
    _PALS: "use mpiexec --pmi=cray (Cray MPICH) or --pmi=pmix (Open MPI)",
}
_OTHERWISE = (
    "use the mpirun of that library, or under Slurm srun --mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH), under Flux flux "
    "run -o pmi=pmix (Open MPI)"
)

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
        size, rank = environ.get(size_name, ""), environ.get(rank_name, "")
        if size.isdecimal() and rank.isdecimal():
            return Launch(_own_name(launcher, size, rank, environ), int(rank), int(size))
    if (rank := environ.get("PALS_RANKID", "")).isdecimal():
        return Launch(_SILENT_PALS, int(rank), max(2, int(rank) + 1))
    size, rank = environ.get("WORLD_SIZE", ""), environ.get("RANK", "")
    if size.isdecimal() and rank.isdecimal() and {"TORCHELASTIC_RUN_ID", "MASTER_ADDR"} & environ.keys():
        return Launch(_name_without_mpi(environ), int(rank), int(size))
    return Launch("none", 0, 1)


def _own_name(launcher: str, size: str, rank: str, environ: Mapping[str, str]) -> str:
    """Return the name of a launcher that sets PMI's variables beside its own, as Flux and PALS do."""
    if launcher == "mpiexec" and environ.get("PALS_RANKID") == rank:
        return _PALS
    if launcher == "mpiexec" and (environ.get("FLUX_JOB_SIZE"), environ.get("FLUX_TASK_RANK")) == (size, rank):
        return "flux run"
    return launcher


def _name_without_mpi(environ: Mapping[str, str]) -> str:
    """Return the name of the launcher that has set PyTorch's variables; some are built on one another."""
    if any(name.startswith("ACCELERATE_") for name in environ):
        return "accelerate launch"
    if "TORCHELASTIC_RUN_ID" in environ:
        return "torchrun"
    return "deepspeed" if "CROSS_SIZE" in environ else next(name for name in WITHOUT_MPI if "MASTER_ADDR" in name)


def without_mpi(launch: Launch) -> str:
    """Return in words that a launcher starts no MPI, and what to put in its place; empty for one that does."""
    other = WITHOUT_MPI.get(launch.launcher)
    return f"started by {launch.launcher}, which starts no MPI: {other}" if other else ""


def fitting_launcher(launch: Launch) -> str:
    """Return in words what starts ranks that MPI sees, where it does not see those of a launch."""
    return _FITTING.get(launch.launcher, _OTHERWISE)


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
        tell(f"runner: warning: {what}")


def take_warnings() -> list[str]:
    """Return the warnings of this process since the last call."""
    taken = list(_WARNINGS)
    _WARNINGS.clear()
    return taken
