"""Resources of a rank: its device, its CPU threads, its memory, its time."""

import ctypes
from collections.abc import Sequence

import torch

from runner.config.options import Config
from runner.core.errors import UsageError
from runner.host.cpus import CpuShare, fair_threads, requested_threads
from runner.host.scheduler import job_end

_M_TRIM_THRESHOLD = -1  # parameters of mallopt(3)
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4


def device_kind(config: Config) -> str:
    """Return the kind of device that the ranks compute on, "cpu" or "cuda"."""
    if config.device != "auto":
        return config.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def local_device(config: Config, local_rank: int) -> torch.device:
    """Return the device of a rank; of several GPUs, the one chosen by its number on the host.

    Args:
        config: holds the kind of device.
        local_rank: number of this rank among the ranks of its host.

    Raises:
        UsageError: a GPU was asked for, and there is none.
    """
    if device_kind(config) == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if not count:
        raise UsageError(
            "--device cuda: PyTorch sees no GPU here (see nvidia-smi, CUDA_VISIBLE_DEVICES, torch.version.cuda)"
        )
    device = torch.device("cuda", local_rank % count)
    torch.cuda.set_device(device)
    return device


def gpu_name(device: torch.device) -> str:
    """Return model and UUID of a GPU, which do not depend on its number in this process; empty for the CPU."""
    if device.type == "cpu":
        return ""
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} {properties.uuid}"


def shared_gpus(ranks: Sequence[tuple[str, str]]) -> str:
    """Return which ranks use the same GPU, in words; empty where each has its own.

    Args:
        ranks: for each rank, its name and the name of its GPU, which is empty for the CPU.
    """
    users: dict[str, list[str]] = {}
    for who, gpu in ranks:
        if gpu:
            users.setdefault(gpu, []).append(who)
    return "; ".join(f"{' and '.join(names)} share {gpu}" for gpu, names in users.items() if len(names) > 1)


def set_threads(config: Config, own: CpuShare, ranks: Sequence[CpuShare]) -> int:
    """Set the number of CPU threads of this rank, and return it.

    Args:
        config: holds the number, where the user sets it.
        own, ranks: the CPUs of this rank and of all, see `fair_threads`.
    """
    threads = config.threads or requested_threads() or fair_threads(own, ranks)
    torch.set_num_threads(threads)
    return threads


def return_freed_memory() -> None:
    """Give large blocks of memory back to the kernel as soon as they are freed; meant for loading a model.

    By default glibc raises the size from which it does so to that of the largest freed block: the memory into which a
    model was read would stay with the process after it has been converted or moved.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 128 << 10)


def keep_freed_memory(device: torch.device) -> None:
    """Keep the memory that the model frees in the process, for the next batch to use.

    By default glibc gives every large block back to the kernel, and the next forward call pays a page fault for each 4
    KiB of it again: on a CPU a quarter of the time of a convolutional network.
    """
    libc = ctypes.CDLL(None)
    if device.type == "cpu" and hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def deadline(config: Config, began: float) -> float | None:
    """Return when a job that began then must have ended, by the user's or the scheduler's limit; since the epoch."""
    limits = [job_end(), began + config.time_limit if config.time_limit else None]
    return min((limit for limit in limits if limit is not None), default=None)
