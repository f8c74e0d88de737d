"""`hvd-runner hosts`: a hostfile for mpirun and horovodrun, made from the allocation in which the command runs.

Slurm: https://slurm.schedmd.com/sbatch.html, output environment variables. PBS: a line of the node file for each slot
(PBS Professional's user guide, "mpiprocs"). LSF: https://www.ibm.com/docs/en/spectrum-lsf, LSB_DJOB_HOSTFILE and
LSB_MCPU_HOSTS; where IBM's Cluster System Management made the allocation, for jsrun, the first host is the launch node,
on which the script runs and no rank may.
"""

import re
import subprocess
from collections import Counter
from pathlib import Path

from runner.config.checks import check_positive
from runner.core.errors import UsageError
from runner.host.allocation import slurm_counts, slurm_hosts
from runner.host.launch import read_variables
from runner.host.scheduler import in_slurm_job, left_over_variables

VARIABLES = (
    "SLURM_JOB_NODELIST",
    "SLURM_TASKS_PER_NODE",
    "PBS_NODEFILE",
    "LSB_DJOB_HOSTFILE",
    "LSB_MCPU_HOSTS",
    "CSM_ALLOCATION_ID",
)

Hosts = dict[str, int]  # number of slots, the most ranks, by host name, in order


def write_hostfile(hosts_text: str | None, slots: int | None) -> str:
    """Return the lines of a hostfile, `HOST slots=N`, a form that both mpirun and horovodrun read.

    Args:
        hosts_text: hosts separated by commas, each with `:SLOTS` or without; None for the hosts of the allocation.
        slots: slots of every host, which override the scheduler's or the list's; None to keep those.

    Raises:
        UsageError: there is no allocation, or the list of hosts is invalid.
    """
    if slots is not None:
        check_positive("--slots", slots)
    hosts = _of_list(hosts_text) if hosts_text else _of_allocation(read_variables(VARIABLES))
    return "".join(f"{host} slots={slots or own}\n" for host, own in hosts.items())


def _of_list(hosts_text: str) -> Hosts:
    hosts: Hosts = {}
    for word in hosts_text.split(","):
        match = re.fullmatch(r"\s*([\w.-]+)(?::([1-9]\d*))?\s*", word)
        if not match:
            raise UsageError(f"{word!r} is not a host; list hosts as node1:2,node2:2, or without slots as node1,node2")
        if match[1] in hosts:
            raise UsageError(f"{match[1]} is listed twice; list it once, with all its slots")
        hosts[match[1]] = int(match[2] or 1)
    return hosts


def _of_allocation(variables: dict[str, str]) -> Hosts:
    nodes, is_in_job = variables.get("SLURM_JOB_NODELIST"), in_slurm_job()
    if nodes and is_in_job:
        return _of_slurm(nodes, variables.get("SLURM_TASKS_PER_NODE", ""))
    if path := variables.get("PBS_NODEFILE"):
        return _of_lines(path, "PBS_NODEFILE")
    if path := variables.get("LSB_DJOB_HOSTFILE"):
        return _without_launch_node(_of_lines(path, "LSB_DJOB_HOSTFILE"), variables)
    if words := variables.get("LSB_MCPU_HOSTS"):
        if not re.fullmatch(r"(\s*[\w.-]+\s+\d+)+\s*", words):
            raise UsageError(f"LSB_MCPU_HOSTS {words!r} is not a list of hosts, each with its slots")
        hosts = {host: int(slots) for host, slots in re.findall(r"([\w.-]+)\s+(\d+)", words)}
        return _without_launch_node(hosts, variables)
    where = "not inside an allocation of Slurm, PBS or LSF" if is_in_job else left_over_variables()
    raise UsageError(f"{where}. Run it inside one, or list the hosts: hvd-runner hosts node1:2,node2:2")


def _of_slurm(nodes: str, tasks: str) -> Hosts:
    """Return the hosts and slots of Slurm's lists, such as `node[1-3,7]` and `2(x3),1`."""
    try:
        names = slurm_hosts(nodes)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"scontrol cannot list the hosts of {nodes}: {error}") from error
    if not all(re.fullmatch(r"[\w.-]+", name) for name in names):  # it takes a list that is cut off for one
        raise UsageError(f"scontrol cannot list the hosts of {nodes}: it says {' '.join(names)}")
    slots = slurm_counts(tasks)
    if slots and len(slots) != len(names):
        raise UsageError(f"SLURM_TASKS_PER_NODE {tasks} does not have as many hosts as SLURM_JOB_NODELIST {nodes}")
    return dict(zip(names, slots or [1] * len(names), strict=True))


def _of_lines(path: str, name: str) -> Hosts:
    """Return the hosts and slots of a file with one line for each slot."""
    try:
        lines = Path(path).read_text().split()
    except OSError as error:
        raise UsageError(f"{name} {path}: {error.strerror}") from error
    if not lines:
        raise UsageError(f"{name} {path} names no hosts")
    return dict(Counter(lines))


def _without_launch_node(hosts: Hosts, variables: dict[str, str]) -> Hosts:
    if "CSM_ALLOCATION_ID" not in variables or len(hosts) == 1:
        return hosts
    return dict(list(hosts.items())[1:])
