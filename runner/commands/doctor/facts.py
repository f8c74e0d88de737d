"""Facts of one rank: its host, its libraries and its resources."""

import hashlib
import importlib.util
import re
import resource
from dataclasses import dataclass
from pathlib import Path

import torch

import runner
from runner.comm import Comm
from runner.core.limits import free_memory, memory_limits
from runner.host.cpus import cpu_share, usable_cpus
from runner.host.devices import gpu_name
from runner.host.launch import loaded_libraries, own_addresses, shared_memory_bytes
from runner.host.versions import versions


@dataclass(frozen=True)
class Facts:
    """Facts of one rank; sizes in bytes.

    Attributes:
        who: the rank in words.
        host: name of its host.
        software: versions by name; "runner" is followed by a digest of its files.
        mpi: the MPI library's own description; empty where there is one rank.
        mpi_files: the libmpi files that this process has loaded.
        horovod_mpi: name of the libmpi that the installed Horovod was built with; empty where none is installed.
        cpus: CPUs on which this process may run.
        cpu_quota: number of CPUs that its control group or Slurm lets it use at a time; None for all.
        threads: number of threads that it computes with.
        gpus: names of the GPUs that it sees.
        gpu: name of the GPU that it uses; empty where it computes on the CPU.
        addresses: IPv4 addresses by interface, without the loopback.
        memory_bytes: memory free for the job on the host.
        memory_limit: the limit of its control group; None where there is none.
        shared_memory_bytes: free in /dev/shm, which MPI uses between the ranks of a host.
        locks_memory: whether it may lock as much memory as an InfiniBand adapter needs; True where there is none.
    """

    who: str
    host: str
    software: dict[str, str]
    mpi: str
    mpi_files: tuple[str, ...]
    horovod_mpi: str
    cpus: tuple[int, ...]
    cpu_quota: float | None
    threads: int
    gpus: tuple[str, ...]
    gpu: str
    addresses: dict[str, str]
    memory_bytes: int
    memory_limit: int | None
    shared_memory_bytes: int
    locks_memory: bool


def gather_facts(comm: Comm, device: torch.device, threads: int) -> list[Facts]:
    """Return the facts of every rank, by rank; every rank calls this."""
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    facts = Facts(
        who=comm.world.who,
        host=comm.world.host,
        software={
            **versions(),
            "runner": f"{versions()['runner']} ({_digest_of_runner()})",
        },
        mpi=comm.library,
        mpi_files=loaded_libraries("libmpi"),
        horovod_mpi=_horovods_mpi(),
        cpus=tuple(sorted(usable_cpus())),
        cpu_quota=min(cpu_share(comm.world.host).quotas.values(), default=None),
        threads=threads,
        gpus=tuple(gpu_name(torch.device("cuda", index)) for index in range(count)),
        gpu=gpu_name(device),
        addresses=own_addresses(),
        memory_bytes=free_memory(),
        memory_limit=min((limit for limit, _ in memory_limits().values()), default=None),
        shared_memory_bytes=shared_memory_bytes(),
        locks_memory=not Path("/sys/class/infiniband").exists()
        or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY,
    )
    return comm.gather_all(facts)


def _digest_of_runner() -> str:
    """Return a digest of the source files: two checkouts may have the same version."""
    root = Path(runner.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _horovods_mpi() -> str:
    """Return the name of the libmpi that Horovod's library asks the loader for; Horovod itself is not loaded."""
    spec = importlib.util.find_spec("horovod")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob("torch/mpi_lib*.so"):
            if match := re.search(rb"\0(libmpi[a-z_]*\.so[.\d]*)\0", path.read_bytes()):
                return match[1].decode()
    return ""
