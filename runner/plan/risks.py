"""What could go wrong with a job, in words; and the memory of its nodes, by which it could. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from runner.config import Config
from runner.grid import Grid
from runner.plan.estimate import MPI_BYTES, Times, Work
from runner.turns import PIECE_BYTES, ROUND_BYTES

_MOST_ALLGATHER = 8  # ranks; with more, what each receives costs more than the detour is worth
_UNEVEN = 1.1  # the busiest rank's rows, by the mean
_MOST_MARGIN = 0.9  # of a node's memory; the system wants some of it, too


@dataclass(frozen=True)
class Layout:
    """The ranks of the job: how many, and of each node; CPU threads of each; bytes of a node's memory."""

    ranks: int
    ranks_per_node: int
    threads: int
    node_bytes: int

    @property
    def nodes(self) -> int:
        """So many are needed."""
        return -(-self.ranks // self.ranks_per_node)

    @property
    def together(self) -> int:
        """Ranks of the fullest node."""
        return min(self.ranks, self.ranks_per_node)


@dataclass(frozen=True)
class Memory:
    """Bytes of rank 0, of any other rank, and of rank 0's node; what of rank 0's is computed, and not measured."""

    rank_0: int
    other: int
    node: int
    computed: int


@dataclass(frozen=True)
class Situation:
    """What is known of the job.

    Attributes:
        free_bytes: of the output's file system; None where it is not known.
        is_spooled: chunks are kept in a file of their own until the output is written of them.
        times: None where they could not be found.
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


def memory_of(
    config: Config, layout: Layout, work: Work, grid: Grid, rank_0: int, other: int, shared: int, has_mpi: bool
) -> Memory:
    """What is measured of one process, and what more the ranks of a job need.

    Args:
        config, layout, work, grid: of the job.
        rank_0, other: measured, of a process that has read the weights itself, and of one that has received them.
        shared: the weights, where the ranks of a node have them together.
        has_mpi: they were measured in a job of several ranks.
    """
    computed = computed_other = 0
    if layout.ranks > 1 and not has_mpi:
        computed = computed_other = MPI_BYTES
        if config.collect in ("allgather", "alltoall"):
            piece = min(PIECE_BYTES, work.output_bytes)
            received = min(ROUND_BYTES, layout.ranks * piece)
            in_turn = min(layout.ranks, ROUND_BYTES // PIECE_BYTES)  # each in the middle of a chunk
            unfinished = in_turn * work.output_bytes // max(1, grid.num_chunks)
            computed += received + min(unfinished, work.output_bytes)
            computed_other += 3 * piece + (received if config.collect == "allgather" else 0)
    node = rank_0 + computed + (layout.together - 1) * (other + computed_other - shared)
    return Memory(rank_0 + computed, other + computed_other, node, computed)


def find_risks(job: Situation) -> list[str]:
    """Everything that is worth a look before the job is submitted."""
    return [*_of_the_cut(job), *_of_time(job), *_of_collecting(job), *_of_room(job)]


def _of_the_cut(job: Situation) -> Iterator[str]:
    ranks, items = job.layout.ranks, len(job.work.item_rows)
    if not items:
        return
    rows = job.work.per_rank(ranks, job.work.item_rows)
    what = "files of the output" if job.grid.shard_chunks > 1 else "chunks"
    if items < ranks:
        yield (
            f"there are {items:,} {what} to compute for {ranks:,} ranks: {ranks - items:,} of them have nothing to do"
            f"{_smaller(job)}"
        )
    elif max(rows) > _UNEVEN * sum(rows) / ranks and job.config.schedule == "static":
        yield (
            f"the busiest rank computes {max(rows):,} rows, {max(rows) * ranks / sum(rows) - 1:.0%} more than the "
            f"mean: {items:,} {what} do not divide well by {ranks:,} ranks{_smaller(job)}"
        )


def _smaller(job: Situation) -> str:
    batch_size = job.config.batch_size
    chunk_size = batch_size * max(1, job.work.rows // batch_size // (16 * job.layout.ranks))
    if chunk_size < job.grid.chunk_size:
        return f". --chunk-size {chunk_size} makes more of them"
    return f"; a --batch-size below {batch_size} would make more of them" if batch_size > 1 else ""


def _of_time(job: Situation) -> Iterator[str]:
    limit, found = job.config.time_limit, job.times
    if limit is None or found is None or found.total <= limit:
        return
    useful = limit - found.startup
    if useful <= 0:
        yield f"--time-limit {limit} s ends before the first chunk: start-up alone takes {found.startup:.0f} s"
        return
    yield (
        f"--time-limit {limit} s is shorter than the job, {found.total:,.0f} s: it takes about "
        f"{-(-found.loop // useful):.0f} jobs, each of which goes on where the last has stopped"
    )


def _of_collecting(job: Situation) -> Iterator[str]:
    layout, collect = job.layout, job.config.collect
    if collect == "allgather" and layout.ranks > _MOST_ALLGATHER:
        yield f"--collect allgather brings every prediction to all {layout.ranks:,} ranks: take --collect alltoall"
    if collect == "direct" and layout.nodes > 1:
        yield (
            f"--collect direct on {layout.nodes} nodes is refused, unless the output is on Lustre or GPFS: "
            "take shards or alltoall"
        )


def _of_room(job: Situation) -> Iterator[str]:
    layout, memory = job.layout, job.memory
    if memory.node > _MOST_MARGIN * layout.node_bytes:
        share = "" if job.config.share_weights else ", or --share-weights on CPUs"
        yield (
            f"the ranks of a node need {in_units(memory.node)} of its {in_units(layout.node_bytes)}: take fewer ranks "
            f"a node, a smaller --batch-size{share}"
        )
    if layout.threads * layout.together > job.cpus_here:
        yield (
            f"{layout.together} ranks of {layout.threads} threads are for a node with more "
            f"CPUs than this host's {job.cpus_here}"
        )
    needed = round(job.work.output_bytes * (1 + job.work.fraction))
    if job.is_spooled and job.free_bytes is not None and needed > job.free_bytes:
        yield (
            f"the output and its spool take {in_units(needed)} until it is whole, and {in_units(job.free_bytes)} are "
            "free. .npy takes its room once"
        )


def in_units(size: float) -> str:
    """Bytes in words, by powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
