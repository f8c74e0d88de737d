"""Which ranks hold one replica of the model together. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Groups:
    """The ranks in groups of `size`, one after another: ranks 0 to size - 1 are group 0, and so on.

    Launchers number the ranks of a host one after another, so a group is on one host where its size divides the ranks
    of each.

    Attributes:
        world_size: number of ranks, a multiple of `size`.
        size: ranks that hold one replica together; 1 where each holds one of its own.
        stages: into which the layers of a replica are cut, one after another; each is held by as many ranks, which
            follow one another, too.
    """

    world_size: int
    size: int
    stages: int = 1

    @property
    def num_groups(self) -> int:
        """How many replicas there are."""
        return self.world_size // self.size

    def group(self, rank: int) -> int:
        """The group of a rank."""
        return rank // self.size

    @property
    def in_words(self) -> str:
        """Such as "2 groups of 4 in 2 stages"."""
        stages = f" in {self.stages} stages" if self.stages > 1 else ""
        return f"{self.num_groups} group{'s' * (self.num_groups > 1)} of {self.size}{stages}"

    @property
    def tensor_size(self) -> int:
        """Ranks that hold a stage together."""
        return self.size // self.stages

    def stage(self, rank: int) -> int:
        """The stage that a rank holds, or holds a part of."""
        return self.place(rank) // self.tensor_size

    def place(self, rank: int) -> int:
        """The number of a rank in its group. The first, 0, leads the group."""
        return rank % self.size


def default_micro_batches(stages: int) -> int:
    """Into so many a batch is cut: with few stages, a fifth of the time at most is spent waiting for the first."""
    return 4 * stages
