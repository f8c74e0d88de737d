"""How this process was started: its own command line, and its launcher's."""

import contextlib
import os
import shlex
import sys
import time
from typing import Any

from runner.config import hide_secrets
from runner.world import World, process_start, scheduler_job

LAUNCHERS = ("horovodrun", "mpirun", "mpiexec", "mpiexec.hydra", "prterun", "srun")


def own_command() -> str:
    """As one would type it; without passwords."""
    return hide_secrets(shlex.join(["python", *sys.orig_argv[1:]]))


def launcher_command() -> str:
    """That of the outermost launcher above this process; empty where none runs on this host."""
    import psutil  # on rank 0 alone

    found = ""
    with contextlib.suppress(psutil.Error):
        for parent in psutil.Process().parents():
            words = parent.cmdline()
            if any(os.path.basename(word) in LAUNCHERS for word in words[:2]):
                found = hide_secrets(shlex.join(words))
    return found


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
