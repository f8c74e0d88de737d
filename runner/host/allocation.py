"""Allocation of a batch scheduler: what it has, and whether this job uses it."""

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from runner.host.launch import detect_launch

_STEPS_BY_NAME = 0xFFFFFFF0  # Slurm's numbers from here on are those of the batch script and the like


def slurm_hosts(nodes: str) -> list[str]:
    """Return the hosts of a list of Slurm's, such as `node[1-3,7]`.

    Raises:
        OSError, subprocess.CalledProcessError: scontrol cannot list them.
    """
    command = ["scontrol", "show", "hostnames", nodes]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def slurm_counts(tasks: str) -> list[int]:
    """Return the tasks of each host by a list of Slurm's, such as `2(x3),1`."""
    pairs = re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks)
    return [int(count) for count, times in pairs for _ in range(int(times or 1))]


def slurm_cpus(environ: Mapping[str, str] = os.environ) -> dict[str, float]:
    """Return how many CPUs of this host Slurm gave the job, by the job: it need not bind processes to them."""
    cpus = environ.get("SLURM_CPUS_ON_NODE", "")
    return {f"Slurm job {environ.get('SLURM_JOB_ID', '')}": float(cpus)} if cpus.isdecimal() and int(cpus) else {}


def unused(num_cpus: float, environ: Mapping[str, str] = os.environ) -> str:
    """Return a warning where the job does not use what the scheduler gave it; else "".

    Args:
        num_cpus: number of CPUs that this process may use.
        environ: variables of the scheduler and the launcher.
    """
    launcher = detect_launch(environ).launcher
    if launcher == "srun":
        return _unused_cpus(num_cpus, environ)
    return _unused_tasks(environ) or _unused_hosts(environ) if launcher == "none" else ""


def _unused_tasks(environ: Mapping[str, str]) -> str:
    counts = {"Slurm": environ.get("SLURM_NTASKS", ""), "LSF": environ.get("LSB_DJOB_NUMPROC", "")}
    with contextlib.suppress(OSError):
        counts["PBS"] = str(len(Path(environ.get("PBS_NODEFILE", "")).read_text().split()))
    for scheduler, count in counts.items():
        if count.isdecimal() and int(count) > 1:
            how = _srun(environ) if scheduler == "Slurm" else "mpirun"
            return f"{scheduler} gave this job {count} tasks, and one process is at work; put {how} before the command"
    return ""


def _unused_hosts(environ: Mapping[str, str]) -> str:
    """Return a warning where this process is outside of the allocation: in a shell of salloc, on the login node."""
    nodes = environ.get("SLURM_JOB_NODELIST", "")
    if not nodes or environ.get("SLURMD_NODENAME"):
        return ""
    try:
        hosts = slurm_hosts(nodes)
    except (OSError, subprocess.CalledProcessError):
        return ""
    here = socket.gethostname()
    if here.partition(".")[0] in {host.partition(".")[0] for host in hosts}:
        return ""
    return f"Slurm gave this job {nodes}, and this process runs on {here}; put {_srun(environ)} before the command"


def _unused_cpus(num_cpus: float, environ: Mapping[str, str]) -> str:
    """Return a warning where a step has fewer CPUs per task than the job: srun does not take the number from it."""
    count = environ.get("SLURM_CPUS_PER_TASK", "")
    if not count.isdecimal() or num_cpus >= min(int(count), os.cpu_count() or 1):
        return ""
    return (
        f"Slurm gave this job {count} CPUs per task, and a rank may use {num_cpus:g}; give srun, too, "
        f"--cpus-per-task={count}"
    )


def _srun(environ: Mapping[str, str]) -> str:
    """Return the srun that starts the ranks: in a step, such as `srun --pty bash`, another one waits for its end."""
    step = environ.get("SLURM_STEP_ID", "")
    in_step = step.isdecimal() and int(step) < _STEPS_BY_NAME
    return f"srun {'--overlap ' * in_step}--mpi=pmix"
