"""Facts about processes of this host, from the kernel."""

import os
import time


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


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from field 3, the state, on; the program's name before it may hold spaces."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()
