"""Resources of all ranks of a job: CPUs, threads, hosts."""

from runner.comm import Comm
from runner.config.options import Config
from runner.core.text import plural
from runner.host.cpus import cpu_share
from runner.host.devices import set_threads


def share_threads(config: Config, comm: Comm) -> int:
    """Set the CPU threads of this rank, a fair share of its host's, and return their number; every rank calls it."""
    own = cpu_share(comm.world.host)
    return set_threads(config, own, comm.gather_all(own))


def describe_workers(comm: Comm, threads: int) -> str:
    """Return ranks, hosts and threads of the job in words; every rank calls it."""
    hosts = len(set(comm.gather_all(comm.world.host)))
    counts = (plural(comm.world.world_size, "rank"), plural(hosts, "host"), plural(threads, "CPU thread"))
    return f"{', '.join(counts)} per rank"
