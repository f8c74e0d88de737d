"""Flow control: bytes that each rank may send to rank 0 in the next round; computed alike by all, from the last one.

If a round has no room for all ranks, they take turns with complete chunks. If all sent what little room each has, rank
0 would hold an unfinished chunk of every rank: its memory would grow with their number.
"""

from collections.abc import Sequence

# All ranks' pieces of one round together, at any number of ranks: every rank allocates this much for what it receives.
# Far below the 2^31 bytes at which an MPI count overflows.
ROUND_BYTES = 64 << 20
# One rank's piece: large enough that the latency of a round does not matter. Twice as much was no faster. Has room for
# two chunks of the usual size and their heads.
PIECE_BYTES = 9 << 20


class FlowControl:
    """Turns of the ranks of one job; every rank makes an equal one.

    Attributes:
        all_fit: whether a round has room for a piece of every rank, so that none takes turns.
        small: bytes that a rank may send at any time; larger chunks wait for their turn.
    """

    def __init__(self, world_size: int, round_bytes: int = ROUND_BYTES, piece_bytes: int = PIECE_BYTES) -> None:
        self.all_fit = world_size * piece_bytes <= round_bytes
        self.small = piece_bytes if self.all_fit else round_bytes // 4 // world_size
        self.piece_bytes = piece_bytes
        self._room = round_bytes - round_bytes // 4
        self._first = 0

    def next(self, queued: Sequence[int], unfinished: Sequence[bool]) -> list[int]:
        """Return the bytes that each rank may send in the next round, by rank.

        Args:
            queued: bytes left in the queue of each rank.
            unfinished: whether each rank is in the middle of a chunk; such a rank continues at once.
        """
        count = len(queued)
        room = self._room
        allowed = [self.small] * count
        if self.all_fit:
            return allowed
        in_turn = [(self._first + step) % count for step in range(count)]
        order = [rank for rank in in_turn if unfinished[rank]]
        order += [rank for rank in in_turn if queued[rank] and not unfinished[rank]]
        for rank in order:
            allowed[rank] = max(self.small, min(queued[rank], self.piece_bytes))
            room -= allowed[rank]
            self._first = (rank + 1) % count
            if room < self.piece_bytes:
                break
        return allowed
