"""Variables of launchers that an earlier job has left, in a shell, tmux, Jupyter or VS Code that was started inside."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from runner.host.launch import Launch
from runner.host.process import has_launcher_above

_PREFIXES = ("OMPI_", "PMIX_", "PRTE_", "PMI_", "MV2_", "FLUX_", "JSM_", "SLURM_")


def left_over_launch(launch: Launch, environ: Mapping[str, str] = os.environ) -> str:
    """Return in words that the launch is that of an earlier job; empty where a launcher is, or may be, at work."""
    if has_launcher_above() is not False:
        return ""
    unset = " ".join(f"${{!{prefix}@}}" for prefix in _PREFIXES if any(name.startswith(prefix) for name in environ))
    job = next((f" ({name} {environ[name]})" for name in ("SLURM_JOB_ID", "FLUX_JOB_ID") if environ.get(name)), "")
    return (
        f"the environment says that {launch.launcher} started this process as rank {launch.rank} of "
        f"{launch.world_size}, but no launcher is above it: the variables are left over from an earlier job{job}, in "
        f"which the shell, tmux, Jupyter or VS Code was started. Start that outside of a job, or in bash: unset {unset}"
    )


def lost_its_launcher(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the launcher of this process has ended for sure: it is not there, nor is what MPI needs of it."""
    if has_launcher_above() is not False:
        return False
    folder, number = environ.get("PMIX_SERVER_TMPDIR"), environ.get("PMI_FD", "")
    return bool(folder and not Path(folder).is_dir()) or (number.isdecimal() and not _is_socket(int(number)))


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False
