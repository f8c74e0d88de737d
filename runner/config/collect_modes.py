"""The ways in which predictions reach the output: one row each, with what others ask about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CollectMode:
    """A way in which predictions reach the output.

    Attributes:
        moves_rows: whether predictions go from rank to rank; else each rank writes its own.
        to_root_only: whether they go to rank 0 alone, not to all ranks.
        output_is_folder: whether the output is a folder with a file of each few chunks.
    """

    moves_rows: bool
    to_root_only: bool = False
    output_is_folder: bool = False


COLLECT_MODES = {
    "allgather": CollectMode(moves_rows=True),
    "alltoall": CollectMode(moves_rows=True, to_root_only=True),
    "direct": CollectMode(moves_rows=False),
    "shards": CollectMode(moves_rows=False, output_is_folder=True),
}
