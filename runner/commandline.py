"""How this process was started: its own command line, and its launcher's."""

import contextlib
import os
import shlex
import sys

from runner.config import hide_secrets

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
