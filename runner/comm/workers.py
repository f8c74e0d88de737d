"""Resources of all ranks of a job: CPUs, threads, hosts."""

from runner.comm import Comm
from runner.config.options import Config
from runner.host.devices import set_threads
from runner.host.launch import usable_cpus


def share_threads(config: Config, comm: Comm) -> int:
    """Set the CPU threads of this rank, a fair share of its host's, and return their number; every rank calls it."""
    cpus = comm.gather_all((comm.world.host, usable_cpus()))
    return set_threads(config, [own for host, own in cpus if host == comm.world.host])


def describe_workers(comm: Comm, threads: int) -> str:
    """Return ranks, hosts and threads of the job in words; every rank calls it."""
    hosts = len(set(comm.gather_all(comm.world.host)))
    ranks = "1 rank" if comm.world.world_size == 1 else f"{comm.world.world_size} ranks"
    return f"{ranks}, {hosts} host{'s' * (hosts > 1)}, {threads} CPU thread{'s' * (threads > 1)} a rank"
