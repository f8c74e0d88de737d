"""The ranks of a job on their nodes, and the memory of these."""

from dataclasses import dataclass

from runner.chunks.grid import Grid
from runner.collect.flow_control import PIECE_BYTES, ROUND_BYTES
from runner.commands.plan.estimate import MPI_BYTES, Work
from runner.config.options import Config


@dataclass(frozen=True)
class Layout:
    """The ranks of the job on their nodes.

    Attributes:
        ranks, ranks_per_node: numbers of ranks in all and on each node.
        threads: CPU threads of each rank.
        node_bytes: bytes of a node's memory.
        model_parallel: number of ranks that hold one replica of the model together.
    """

    ranks: int
    ranks_per_node: int
    threads: int
    node_bytes: int
    model_parallel: int = 1

    @property
    def replicas(self) -> int:
        """The number of replicas of the model, which share the rows."""
        return self.ranks // self.model_parallel

    @property
    def nodes(self) -> int:
        """The number of nodes needed."""
        return -(-self.ranks // self.ranks_per_node)

    @property
    def together(self) -> int:
        """The number of ranks on the fullest node."""
        return min(self.ranks, self.ranks_per_node)


@dataclass(frozen=True)
class Memory:
    """The bytes of rank 0, of any other rank, and of rank 0's node.

    Attributes:
        computed: the computed part of rank 0's bytes, where the rest is measured.
        how: source of the rest, or of all, in words.
    """

    rank_0: int
    other: int
    node: int
    computed: int
    how: str


def memory_of(
    config: Config,
    layout: Layout,
    work: Work,
    grid: Grid,
    rank_0: int,
    other: int,
    shared: int,
    has_mpi: bool,
    how: str,
) -> Memory:
    """Return the measured memory of single processes, plus the computed further needs of a job's ranks.

    Args:
        config, layout, work, grid: configuration, ranks, work and partition of the job.
        rank_0, other: measured bytes of a process that has read the weights, and of one that has received them.
        shared: bytes of the weights, where the ranks of a node share them.
        has_mpi: whether they were measured in a job of several ranks.
        how: source of these numbers, in words.
    """
    computed = computed_other = 0
    if layout.ranks > 1 and not has_mpi:
        computed = computed_other = MPI_BYTES
        if config.collect_mode.moves_rows:
            piece = min(PIECE_BYTES, work.output_bytes)
            received = min(ROUND_BYTES, layout.replicas * piece)
            in_turn = min(layout.replicas, ROUND_BYTES // PIECE_BYTES)  # ranks in the middle of a chunk
            unfinished = in_turn * work.output_bytes // max(1, grid.num_chunks)
            computed += received + min(unfinished, work.output_bytes)
            computed_other += 3 * piece + (0 if config.collect_mode.to_root_only else received)
    node = rank_0 + computed + (layout.together - 1) * (other + computed_other - shared)
    return Memory(rank_0 + computed, other + computed_other, node, computed, how)
