"""Errors of memory: which limits there are, and what to do; no library is imported for it."""

import os
import resource

from runner.core.limits import memory_limits
from runner.core.text import byte_size

_ULIMITS = (("ulimit -v", resource.RLIMIT_AS), ("ulimit -d", resource.RLIMIT_DATA))


def is_memory_shortage(error: BaseException) -> bool:
    """Return whether memory was short, on the CPU or a GPU."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # PyTorch has no type for it


def name_limits(error: BaseException) -> str:
    """Return in brackets, for the end of a message, the limits of memory and what to do; empty for other errors."""
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
