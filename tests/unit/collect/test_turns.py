"""Who may send to rank 0 when: nobody waits for ever, and rank 0 never holds many unfinished chunks."""

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.collect.flow_control import FlowControl


@settings(max_examples=200, deadline=None)
@given(
    world_size=st.integers(1, 40),
    piece=st.integers(1, 50),
    pieces_a_round=st.integers(2, 12),
    chunks=st.lists(st.integers(1, 200), min_size=1, max_size=40),
)
def test_every_chunk_is_sent(world_size: int, piece: int, pieces_a_round: int, chunks: list[int]) -> None:
    """Ranks that each send the same chunks, as the collector does: whole ones, or cut in a turn."""
    round_bytes = piece * pieces_a_round
    turns = FlowControl(world_size, round_bytes, piece)
    left = [list(chunks) for _ in range(world_size)]
    unfinished = [False] * world_size
    allowed = [turns.small] * world_size
    total = sum(chunks) * world_size
    for _ in range(4 * total + 10):
        sent = 0
        for rank in range(world_size):
            room, first = allowed[rank], True
            while left[rank] and room:
                if left[rank][0] > room and not turns.all_fit and (not first or allowed[rank] <= turns.small):
                    break
                size = min(room, left[rank][0])
                left[rank][0] -= size
                room, sent, first = room - size, sent + size, False
                unfinished[rank] = left[rank][0] > 0
                if not unfinished[rank]:
                    left[rank].pop(0)
        assert sent <= round_bytes
        assert turns.all_fit or sum(unfinished) <= pieces_a_round
        if not any(left):
            return
        allowed = turns.next([sum(chunk) for chunk in left], unfinished)
    raise AssertionError(f"{left} are not sent after all these rounds")
