"""Command lines of this process and of its launcher."""

import contextlib
import os
import shlex
import sys
import time
from typing import Any

from runner.core.secrets import hide_in_words
from runner.host.launch import World, scheduler_job

_LAUNCHERS = ("horovodrun", "mpirun", "mpiexec", "mpiexec.hydra", "prterun", "srun")


def own_command() -> str:
    """Return the command line of this process as a user would type it, without passwords."""
    return shlex.join(hide_in_words(["python", *sys.orig_argv[1:]]))


def launchers_above() -> list[tuple[int, list[str]]]:
    """Return pid and words of each launcher above this process that this host shows, the outermost last."""
    import psutil  # imported on rank 0 alone

    processes = []
    with contextlib.suppress(psutil.Error):  # processes above may belong to other users
        for parent in psutil.Process().parents():
            words = parent.cmdline()
            if any(os.path.basename(word) in _LAUNCHERS for word in words[:2]):
                processes.append((parent.pid, words))
    return processes


def launcher_command() -> str:
    """Return the command line of the outermost launcher above this process; empty where none runs on this host."""
    launchers = launchers_above()
    return shlex.join(hide_in_words(launchers[-1][1])) if launchers else ""


def describe_job(world: World, model_parallel: int, data: str, epoch: float) -> dict[str, Any]:
    """Return the description of a job for the ledger.

    Args:
        world: rank 0.
        model_parallel: number of ranks that hold one replica of the model together.
        data: stamp of the data set.
        epoch: start of the job, in seconds since the epoch.
    """
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
