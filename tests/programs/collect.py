"""Chunks of many sizes and dtypes through the collector of real ranks: `collect.py SEED COMM COLLECT`.

Every rank makes its chunks from their index alone; rank 0 compares what arrives, and counts. The pieces of a round are
made tiny, so that frames and their headers are cut everywhere, and the outgoing stream overflows.
"""

import sys
import threading
import time

import numpy as np

import runner.collect.collector
from runner.chunks.commit import Commit
from runner.collect.collector import Collector
from runner.comm import connect
from runner.comm.watchdog import Watchdog
from runner.core.checksum import checksum
from runner.host.launch import detect_launch
from runner.host.stop import Stop
from runner.telemetry.timeline import Timeline

NUM_CHUNKS = 200
DTYPES = ("<f4", "<f8", "|b1", "|i1", "<i8", "<f2", "<c8")


def rows_of(index: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, index])
    shape = tuple(rng.integers(0, [40, 5, 4])[: rng.integers(1, 4)])
    return (rng.random(shape) * 2).astype(DTYPES[rng.integers(len(DTYPES))])


if __name__ == "__main__":
    seed, backend, collect = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    runner.collect.collector.PIECE_BYTES = int(np.random.default_rng(seed).integers(1, 3000))
    if seed % 2:  # a round has room for four ranks: more take turns
        runner.collect.collector.ROUND_BYTES = 4 * runner.collect.collector.PIECE_BYTES
    comm = connect(detect_launch(), backend, collect, "cpu")
    world = comm.world
    is_direct = collect == "direct"
    written: list[int] = []
    recorded: list[int] = []

    def write(start: int, rows: np.ndarray) -> None:
        expected = rows_of(start, seed)
        assert rows.dtype == expected.dtype, start
        assert rows.shape == expected.shape, start
        assert rows.tobytes() == expected.tobytes(), start
        written.append(start)

    def record(commit: Commit) -> None:
        assert (commit.chunk % 7) % world.world_size == commit.rank, commit
        assert is_direct or commit.chunk in written, commit
        recorded.append(commit.chunk)

    collector = Collector(comm, write, record, is_direct, Stop(None), Watchdog(comm, 60.0), Timeline(0.0))
    most_queued = 0
    for index in range(NUM_CHUNKS):
        if (index % 7) % world.world_size == world.rank:  # uneven; with more ranks than 7 some have none
            rows = rows_of(index, seed)
            collector.put(Commit(index, index, index + 1, checksum(rows), "", world.rank, 0.0), rows)
            most_queued = max(most_queued, collector._queued_bytes - rows.nbytes)
            time.sleep(0.001 * (index % 3 == world.rank % 3))
    collector.close()
    assert most_queued <= 2 * runner.collect.collector.PIECE_BYTES, most_queued
    if world.rank == 0:
        assert sorted(recorded) == list(range(NUM_CHUNKS)), sorted(recorded)
        print(f"all {NUM_CHUNKS} chunks arrived")
    else:
        assert recorded == []
    own = [index for index in range(NUM_CHUNKS) if (index % 7) % world.world_size == world.rank]
    expected = own if is_direct else list(range(NUM_CHUNKS)) if world.rank == 0 else []
    assert sorted(written) == expected, sorted(written)
    comm.close()
    assert not any(thread.name == "collector" for thread in threading.enumerate())
