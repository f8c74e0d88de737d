"""How this process was started: its own command line, and its launcher's."""

import contextlib
import os
import shlex
import sys
import time
from typing import Any

from runner.config.paths import hide_secrets
from runner.host.launch import World, process_start, scheduler_job

_LAUNCHERS = ("horovodrun", "mpirun", "mpiexec", "mpiexec.hydra", "prterun", "srun")


def own_command() -> str:
    """As one would type it; without passwords."""
    return hide_secrets(shlex.join(["python", *sys.orig_argv[1:]]))


def launchers_above() -> list[tuple[int, list[str]]]:
    """The launchers above this process that can be seen on this host, the outermost last: pid and words of each."""
    import psutil  # on rank 0 alone

    found = []
    with contextlib.suppress(psutil.Error):  # above may be processes of others
        for parent in psutil.Process().parents():
            words = parent.cmdline()
            if any(os.path.basename(word) in _LAUNCHERS for word in words[:2]):
                found.append((parent.pid, words))
    return found


def launcher_command() -> str:
    """That of the outermost launcher above this process; empty where none runs on this host."""
    launchers = launchers_above()
    return hide_secrets(shlex.join(launchers[-1][1])) if launchers else ""


def describe_job(world: World, model_parallel: int, data: str) -> dict[str, Any]:
    """What the ledger keeps of a job.

    Args:
        world: rank 0.
        model_parallel: ranks that hold one replica of the model together.
        data: what the data set says of itself.
    """
    epoch = process_start()
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch)),
        "epoch": epoch,
        "world_size": world.world_size,
        "model_parallel": model_parallel,
        "launcher": world.launcher,
        "host": world.host,
        "scheduler_job": scheduler_job(),
        "command": own_command(),
        "launcher_command": launcher_command(),
        "data": data,
    }
