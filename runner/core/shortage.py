"""Errors of memory and of threads: which limits there are, and what to do; no library is imported for it."""

import os
import resource

from runner.core.limits import memory_limits, task_limits
from runner.core.text import byte_size

_ULIMITS = (("ulimit -v", resource.RLIMIT_AS), ("ulimit -d", resource.RLIMIT_DATA))


def is_memory_shortage(error: BaseException) -> bool:
    """Return whether memory was short, on the CPU or a GPU."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # PyTorch has no type for it


def is_thread_shortage(error: BaseException) -> bool:
    """Return whether no further thread could be started; Python has no type for it."""
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def name_limits(error: BaseException) -> str:
    """Return in brackets, for the end of a message, the limits that were met and what to do; empty for other errors."""
    if is_thread_shortage(error):
        return f" [{_task_limits_in_words()}. Raise the least of them, or start fewer ranks on a host]"
    if not is_memory_shortage(error):
        return ""
    if "CUDA" in str(error) or "HIP" in str(error):  # which names the GPU's memory itself
        return " [one rank on each GPU, a GPU with more memory, --dtype bfloat16 or --model-parallel may help]"
    return (
        f" [memory: {limits_in_words()}. Raise the least of them (Slurm: --mem; a container: its limit), or start "
        "fewer ranks on a host]"
    )


def limits_in_words() -> str:
    """Return the limits of memory of this process, by the names of what sets them."""
    limits = {f"{name} allows": resource.getrlimit(kind)[0] for name, kind in _ULIMITS}
    words = [f"{name} {byte_size(limit)}" for name, limit in limits.items() if limit != resource.RLIM_INFINITY]
    if groups := memory_limits().values():
        words.append(f"the control group allows {byte_size(min(limit for limit, _ in groups))}")
    words.append(f"this host has {byte_size(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))}")
    return ", ".join(words)


def _task_limits_in_words() -> str:
    """Return the limits of processes and threads, and of the addresses that their stacks need."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    words = [] if most == resource.RLIM_INFINITY else [f"ulimit -u allows {most} processes and threads of this user"]
    words += [f"the control group allows {number} of them" for number in sorted(task_limits().values())[:1]]
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    words += [] if addresses == resource.RLIM_INFINITY else [f"ulimit -v allows {byte_size(addresses)}"]
    return ", ".join(words) or "no limit of this process is known"
