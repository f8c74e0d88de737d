"""Limits that control groups set for this process: CPUs at a time, memory, threads; of its group and of all above it.

Version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html. Version 1, whose controllers have trees of their own:
https://docs.kernel.org/scheduler/sched-bwc.html and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

_ROOT = "/sys/fs/cgroup"
_OWN = "/proc/self/cgroup"
_NO_LIMIT = 1 << 60  # bytes; version 1 has a number for none


def cpu_quotas(root: str = _ROOT, own: str = _OWN) -> dict[str, float]:
    """Return how many CPUs may be used at a time, by the control group that sets it; all processes in it share them."""
    quotas = {}
    for folder in _groups("cpu", root, own):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            if (folder / "cpu.max").exists():
                quota, period = map(int, (folder / "cpu.max").read_text().split())
            else:
                quota = int((folder / "cpu.cfs_quota_us").read_text())
                period = int((folder / "cpu.cfs_period_us").read_text())
            if quota > 0:
                quotas[str(folder)] = quota / period
    return quotas


def memory_limits(root: str = _ROOT, own: str = _OWN) -> dict[str, tuple[int, int]]:
    """Return limit and free bytes, by the control group that sets the limit. Reclaimable file pages count as free."""
    limits = {}
    for folder in _groups("memory", root, own):
        is_second = (folder / "memory.max").exists()
        names = ("memory.max", "memory.current") if is_second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        with contextlib.suppress(OSError, ValueError):
            limit, used = (int((folder / name).read_text()) for name in names)
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            pages = int(stat.get("inactive_file" if is_second else "total_inactive_file", 0))
            if limit < _NO_LIMIT:
                limits[str(folder)] = limit, max(0, limit - used + pages)
    return limits


def task_limits(root: str = _ROOT, own: str = _OWN) -> dict[str, int]:
    """Return how many processes and threads there may be, by the control group that sets it."""
    limits = {}
    for folder in _groups("pids", root, own):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limits[str(folder)] = int((folder / "pids.max").read_text())
    return limits


def total_memory() -> int:
    """Return the memory that processes of this job may use on this host, in bytes."""
    import psutil

    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in memory_limits().values())])


def free_memory() -> int:
    """Return the memory that is free for this process on this host, in bytes."""
    import psutil

    return min([int(psutil.virtual_memory().available), *(free for _, free in memory_limits().values())])


def _groups(controller: str, root: str, own: str) -> Iterator[Path]:
    """Yield the folder of this process's control group, and those above it, of a controller."""
    try:
        lines = [line.split(":", 2) for line in Path(own).read_text().splitlines()]
    except OSError:
        return
    for number, controllers, path in lines:
        if controllers and controller not in controllers.split(","):
            continue
        trees = [controllers, controller] if controllers else ["unified", "."] if number == "0" else []
        tree = next((Path(root, name) for name in trees if Path(root, name).is_dir()), None)
        if tree is None:
            continue
        group = tree / path.strip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(tree))
