"""The scheduler's job that this process belongs to: its number and its end."""

import contextlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from runner.host.process import has_launcher_above

_OWN_GROUPS = "/proc/self/cgroup"


def in_slurm_job(environ: Mapping[str, str] = os.environ, groups: str = _OWN_GROUPS) -> bool:
    """Return whether this process may belong to the Slurm job whose variables it has.

    Its control group names the job, on sites that use Slurm's; else one of its parents is Slurm's.
    """
    job = environ.get("SLURM_JOB_ID", "")
    if not job:
        return True
    with contextlib.suppress(OSError):
        # of a heterogeneous job, the variable has the number of the first part
        if (match := re.search(r"/job_(\d+)", Path(groups).read_text())) and "SLURM_HET_SIZE" not in environ:
            return match[1] == job
    return has_launcher_above(also="salloc") is not False


def job_end(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return when the scheduler will end this job (Slurm tells), in seconds since the epoch; None if it is unknown.

    An end that is over is none: the job was extended, or is another one.
    """
    value = environ.get("SLURM_JOB_END_TIME", "")
    is_own = value.isdecimal() and in_slurm_job(environ)
    return float(value) if is_own and float(value) > time.time() else None


def scheduler_job(environ: Mapping[str, str] = os.environ) -> str:
    """Return the scheduler's number of this job; empty without a scheduler."""
    names = ("SLURM_JOB_ID",) if in_slurm_job(environ) else ()
    return next((environ[name] for name in (*names, "PBS_JOBID", "LSB_JOBID") if environ.get(name)), "")


def left_over_variables(environ: Mapping[str, str] = os.environ) -> str:
    """Return in words that Slurm's variables are those of another job, where `in_slurm_job` says so."""
    return (
        f"Slurm's variables are left over from job {environ['SLURM_JOB_ID']}, of which this process is no part, and in "
        "which the shell, tmux, Jupyter or VS Code was started"
    )


def left_over_job(environ: Mapping[str, str] = os.environ) -> str:
    """Return a warning where Slurm's variables are those of another job, or its end is over; else ""."""
    end = environ.get("SLURM_JOB_END_TIME", "")
    if not in_slurm_job(environ):
        return f"{left_over_variables(environ)}: its time limit and tasks are ignored. In bash: unset ${{!SLURM_@}}"
    if end.isdecimal() and job_end(environ) is None:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(end)))
        return f"SLURM_JOB_END_TIME, {when}, is over, and is ignored: give --time-limit if the job must stop in time"
    return ""
