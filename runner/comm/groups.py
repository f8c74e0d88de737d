"""Groups of ranks that hold one replica of the model together."""

from dataclasses import dataclass

from runner.core.text import plural


@dataclass(frozen=True)
class Groups:
    """Partition of the ranks into groups of `size`, one after another: ranks 0 to size - 1 are group 0, and so on.

    Launchers number the ranks of a host one after another, so a group is on one host if its size divides the ranks of
    each host.

    Attributes:
        world_size: number of ranks, a multiple of `size`.
        size: number of ranks that hold one replica together; 1 where each holds one of its own.
        stages: number of stages into which the layers of a replica are cut, one after another; each is held by as many
            ranks, which follow one another, too.
    """

    world_size: int
    size: int
    stages: int = 1

    @property
    def num_groups(self) -> int:
        """The number of replicas."""
        return self.world_size // self.size

    def group(self, rank: int) -> int:
        """Return the group of a rank."""
        return rank // self.size

    def describe(self) -> str:
        """Return the groups in words, such as "2 groups of 4 in 2 stages"."""
        stages = f" in {self.stages} stages" if self.stages > 1 else ""
        return f"{plural(self.num_groups, 'group')} of {self.size}{stages}"

    @property
    def tensor_size(self) -> int:
        """The number of ranks that hold a stage together."""
        return self.size // self.stages

    def stage(self, rank: int) -> int:
        """Return the stage that a rank holds, or holds a part of."""
        return self.place(rank) // self.tensor_size

    def place(self, rank: int) -> int:
        """Return the number of a rank in its group. The first, 0, leads the group."""
        return rank % self.size


def default_micro_batches(stages: int) -> int:
    """Return the default number of micro-batches: with few stages, at most a fifth of the time is spent waiting."""
    return 4 * stages
