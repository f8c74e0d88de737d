"""Risks of a job, in words."""

from collections.abc import Iterator
from dataclasses import dataclass

from runner.chunks.grid import Grid
from runner.commands.plan.estimate import Times, Work
from runner.commands.plan.layout import Layout, Memory
from runner.config.options import Config
from runner.core.text import byte_size, duration, plural

_MOST_ALLGATHER = 8  # ranks; with more, the bytes that each receives cost more than the detour is worth
_UNEVEN = 1.1  # ratio of the busiest rank's rows to the mean
_MOST_MARGIN = 0.9  # of a node's memory; the rest is for the system


@dataclass(frozen=True)
class PlannedJob:
    """A job as planned.

    Attributes:
        free_bytes: free bytes of the output's file system; None where unknown.
        is_spooled: whether chunks are kept in a separate file until the output is written from them.
        times: estimated times; None where they are unknown.
    """

    config: Config
    layout: Layout
    grid: Grid
    work: Work
    memory: Memory
    times: Times | None
    free_bytes: int | None
    is_spooled: bool
    cpus_here: int


def find_risks(job: PlannedJob) -> list[str]:
    """Return all risks worth a look before the job is submitted."""
    of_nodes = find_risks_of_nodes(job.config, job.layout, job.memory, job.cpus_here)
    return [*_of_partition(job), *_of_time(job), *_of_collecting(job), *of_nodes, *_of_disk(job)]


def _of_partition(job: PlannedJob) -> Iterator[str]:
    ranks, items = job.layout.replicas, len(job.work.item_rows)
    if not items:
        return
    rows = job.work.per_rank(ranks, job.work.item_rows)
    who = "replicas" if job.layout.model_parallel > 1 else "ranks"
    what = ("output file", "output files") if job.grid.shard_chunks > 1 else ("chunk", "chunks")
    if items < ranks:
        yield (
            f"{plural(items, *what)} to compute for {ranks:,} {who}: {ranks - items:,} of them have nothing to do"
            f"{_smaller(job)}"
        )
    elif max(rows) > _UNEVEN * sum(rows) / ranks and job.config.schedule == "static":
        yield (
            f"the busiest of {ranks:,} {who} computes {max(rows):,} rows, {max(rows) * ranks / sum(rows) - 1:.0%} more "
            f"than the mean: {plural(items, *what)} do not divide well by {ranks:,} {who}{_smaller(job)}"
        )


def _smaller(job: PlannedJob) -> str:
    batch_size = job.config.batch_size
    chunk_size = batch_size * max(1, job.work.rows // batch_size // (16 * job.layout.replicas))
    if chunk_size < job.grid.chunk_size:
        return f". --chunk-size {chunk_size} makes more of them"
    return f"; a --batch-size below {batch_size} would make more of them" if batch_size > 1 else ""


def _of_time(job: PlannedJob) -> Iterator[str]:
    limit = job.config.time_limit
    if limit is None or job.times is None or job.times.total <= limit:
        return
    useful = limit - job.times.startup
    if useful <= 0:
        yield f"--time-limit {limit} s ends before the first chunk: start-up alone takes {duration(job.times.startup)}"
        return
    yield (
        f"--time-limit {limit} s is shorter than the job, {duration(job.times.total)}: it takes about "
        f"{plural(-(-job.times.loop // useful), 'job')}, each of which resumes where the previous one stopped"
    )


def _of_collecting(job: PlannedJob) -> Iterator[str]:
    layout = job.layout
    collect = job.config.collect
    if collect == "allgather" and layout.replicas > _MOST_ALLGATHER:
        yield f"--collect allgather sends every prediction to all {layout.replicas:,} ranks; use --collect alltoall"
    if collect == "direct" and layout.nodes > 1:
        yield (
            f"--collect direct on {layout.nodes} nodes is rejected, unless the output is on Lustre or GPFS; "
            "use shards or alltoall"
        )


def find_risks_of_nodes(config: Config, layout: Layout, memory: Memory, cpus_here: int) -> Iterator[str]:
    """Yield the risks of too little memory and too few CPUs on the nodes."""
    if memory.node > _MOST_MARGIN * layout.node_bytes:
        can_share = not config.share_weights and layout.model_parallel == 1
        share = ", or --share-weights on CPUs" if can_share else ""
        yield (
            f"the ranks of a node need {byte_size(memory.node)} of its {byte_size(layout.node_bytes)}; use fewer ranks "
            f"per node, a smaller --batch-size{share}"
        )
    if layout.threads * layout.together > cpus_here:
        yield (
            f"{plural(layout.together, 'rank')} of {plural(layout.threads, 'thread')} are for a node with more CPUs "
            f"than this host's {cpus_here}"
        )


def _of_disk(job: PlannedJob) -> Iterator[str]:
    needed = round(job.work.output_bytes * (1 + job.work.fraction))
    if job.is_spooled and job.free_bytes is not None and needed > job.free_bytes:
        free = byte_size(job.free_bytes)
        yield f"output and spool need {byte_size(needed)} until the end, and {free} are free; .npy needs no spool"
