"""Command lines of this process and of its launcher."""

import contextlib
import os
import shlex
import sys
import time
from typing import Any

from runner.core.secrets import hide_in_words
from runner.core.shortage import limits_in_words
from runner.host.launch import World
from runner.host.scheduler import scheduler_job

_LAUNCHERS = ("horovodrun", "mpirun", "mpiexec", "mpiexec.hydra", "prterun", "srun")
_MOST_TYPED = 8  # variables that a user names on the command line


def own_command() -> str:
    """Return the command line of this process as a user would type it, without passwords."""
    words = sys.orig_argv[1:]
    is_script = os.path.basename(words[0] if words else "") == "hvd-runner"
    return shlex.join(hide_in_words(["hvd-runner", *words[1:]] if is_script else ["python", *words]))


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


def shown_command(command: str) -> str:
    """Return a command about as it was typed: horovodrun adds the names of all variables to it, each after -x.

    Few of them may have been typed, and stay.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    if words[:1] == ["prterun"]:  # Open MPI's mpirun becomes it
        words[0] = "mpirun"
    names = [index for index, word in enumerate(words[:-1]) if word == "-x"]
    left_out = {*names, *(index + 1 for index in names)} if len(names) > _MOST_TYPED else set()
    return shlex.join(word for index, word in enumerate(words) if index not in left_out)


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
        "memory": limits_in_words(),
        "scheduler_job": scheduler_job(),
        "command": own_command(),
        "launcher_command": launcher_command(),
        "data": data,
    }
