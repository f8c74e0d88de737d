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
    """

    world_size: int
    size: int

    @property
    def num_groups(self) -> int:
        """How many replicas there are."""
        return self.world_size // self.size

    def group(self, rank: int) -> int:
        """The group of a rank."""
        return rank // self.size

    def place(self, rank: int) -> int:
        """The number of a rank in its group. The first, 0, leads the group."""
        return rank % self.size
