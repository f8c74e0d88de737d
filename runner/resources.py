"""What a rank computes with: its device, its threads, its time."""

import ctypes
from collections.abc import Sequence

import torch

from runner.comm import Comm
from runner.config import Config
from runner.errors import UsageError
from runner.world import fair_threads, job_end, process_start, requested_threads, usable_cpus

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # of mallopt(3)


def device_kind(config: Config) -> str:
    """What the ranks compute on, "cpu" or "cuda"."""
    if config.device != "auto":
        return config.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def local_device(config: Config, comm: Comm) -> torch.device:
    """The device of this rank: of GPUs, the one that its number on the host chooses.

    Raises:
        UsageError: there is no GPU, and one was asked for.
    """
    if device_kind(config) == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if not count:
        raise UsageError(
            "--device cuda: PyTorch sees no GPU here (see nvidia-smi, CUDA_VISIBLE_DEVICES, torch.version.cuda)"
        )
    device = torch.device("cuda", comm.world.local_rank % count)
    torch.cuda.set_device(device)
    return device


def gpu_name(device: torch.device) -> str:
    """What a GPU is known by, whatever its number is for a process: model and UUID. Empty for the CPU."""
    if device.type == "cpu":
        return ""
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} {properties.uuid}"


def shared_gpus(ranks: Sequence[tuple[str, str]]) -> str:
    """Which ranks take the same GPU, in words; empty where each has its own.

    Args:
        ranks: per rank, its name and that of its GPU, which is empty for the CPU.
    """
    users: dict[str, list[str]] = {}
    for who, gpu in ranks:
        if gpu:
            users.setdefault(gpu, []).append(who)
    return "; ".join(f"{' and '.join(names)} share {gpu}" for gpu, names in users.items() if len(names) > 1)


def set_threads(config: Config, comm: Comm) -> int:
    """Fix the CPU threads of this rank, and return how many; every rank calls it."""
    mine = (comm.world.host, usable_cpus())
    local_cpus = [cpus for host, cpus in comm.gather_all(mine) if host == comm.world.host]
    threads = config.threads or requested_threads() or fair_threads(mine[1], local_cpus)
    torch.set_num_threads(threads)
    return threads


def return_freed_memory() -> None:
    """Let large blocks go back to the kernel as soon as they are freed, for while a model is loaded.

    By itself glibc raises the size from which it does so to that of the largest that was freed: what a model was
    read into stays with the process after it has been converted or moved.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 128 << 10)


def keep_freed_memory(device: torch.device) -> None:
    """Let the memory that the model frees stay with the process, for the next batch to use.

    By itself glibc gives every large block back to the kernel, and the next forward call pays a page fault for each
    4 KiB of it again: on a CPU a quarter of the time of a convolutional network.
    """
    libc = ctypes.CDLL(None)
    if device.type == "cpu" and hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def deadline(config: Config) -> float | None:
    """When this process must have ended: by the user's limit or by the scheduler's, whichever is sooner."""
    limits = [job_end(), process_start() + config.time_limit if config.time_limit else None]
    return min((limit for limit in limits if limit is not None), default=None)


def workers_in_words(comm: Comm, threads: int) -> str:
    """Who works on the job; every rank calls it."""
    hosts = len(set(comm.gather_all(comm.world.host)))
    ranks = "1 rank" if comm.world.world_size == 1 else f"{comm.world.world_size} ranks"
    return f"{ranks}, {hosts} host{'s' * (hosts > 1)}, {threads} CPU thread{'s' * (threads > 1)} a rank"
