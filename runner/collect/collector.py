"""Collection of predictions on rank 0 in rolling rounds, while the ranks compute. Knows nothing of files.

Each rank has an outgoing stream of bytes: framed chunks, one after another. A round brings a header of every rank to
all ranks, and a piece of each rank's stream, up to a limit, to rank 0. At most one round is in flight; a rank starts
the next when it has a full piece, when another rank is known to have more, or when a short time has passed. Rank 0
reassembles the streams. Collection ends with the round in which all ranks report that they are done.

Bytes are bytes: any dtype, ranks with different numbers of chunks, ranks with none. Memory is bounded at any number of
ranks: a rank whose stream is too far ahead waits (backpressure), and rank 0 holds two rounds and a few unfinished
chunks (see `flow_control.py`).

Where ranks write their rows themselves, the frames carry no rows, and tell rank 0 what to record.

The rounds run in a thread of their own, so that they continue during a long forward call.
"""

import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

import numpy as np

from runner.chunks.commit import Commit
from runner.collect.flow_control import PIECE_BYTES, ROUND_BYTES, FlowControl
from runner.collect.framing import Decoder, frame
from runner.comm import Comm, wait
from runner.comm.watchdog import Watchdog
from runner.core.text import row_range
from runner.host.stop import Stop
from runner.telemetry.timeline import Timeline

Write = Callable[[int, np.ndarray], None]
Record = Callable[[Commit], None]

# The longest time between two rounds. A shorter one shows progress sooner and costs every rank more CPU time.
_PACE_SECONDS = 0.1

_HEADER = struct.Struct(">4s??BQ")  # magic, done, in the middle of a chunk, stop code, bytes left in queue
_MAGIC = b"RND3"


class Collector:
    """Collector of one rank; every rank makes one at the same point.

    Args:
        comm: the ranks.
        write: writes rows into the output, from a given row on; called on rank 0 for every chunk, or with `is_direct`
            on each rank for its own. Called in the collector's thread, like `record`.
        record: called on rank 0 when a chunk is written.
        is_direct: whether each rank writes its own rows.
        stop: a request of any rank to stop reaches all ranks through the rounds.
        watch: watchdog; is told what the ranks wait for.
        timeline: receives the times of this rank.

    Attributes:
        received_bytes: bytes of all pieces that have arrived at this rank.
    """

    def __init__(
        self, comm: Comm, write: Write, record: Record, is_direct: bool, stop: Stop, watch: Watchdog, timeline: Timeline
    ) -> None:
        self._comm = comm
        self._write = write
        self._record = record
        self._stop = stop
        self._watch = watch
        self._is_direct = is_direct
        self._timeline = timeline
        self._is_root = comm.world.rank == 0
        self._cap = min(PIECE_BYTES, ROUND_BYTES // comm.world.world_size)  # enough bytes for a round
        self._turns = FlowControl(comm.world.world_size, ROUND_BYTES, PIECE_BYTES)
        self._allowed = self._turns.small  # bytes of this rank in the next round
        self._changed = threading.Condition()
        self._chunks: deque[tuple[Commit, np.ndarray]] = deque()  # handed over by this rank
        self._stream: deque[deque[memoryview]] = deque()  # on the way to rank 0, by chunk
        self._is_unfinished = False  # part of the first chunk of the stream has been sent
        self._queued_bytes = 0  # of chunks and stream
        self._closing = self._abandoned = False
        self._error: BaseException | None = None
        self.received_bytes = 0
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Deliver what has been handed over, and no more, after an error in a job of one rank; then stop the thread."""
        if kind is None or self._comm.world.world_size > 1:  # otherwise the job ends, and this process with it
            return
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()
        self._thread.join()

    def put(self, commit: Commit, rows: np.ndarray) -> None:
        """Hand over a chunk; wait while too many bytes are queued.

        Args:
            commit: record of the chunk.
            rows: its predictions, contiguous; not to be changed any more.

        Raises:
            RunnerError: the collection has failed.
        """
        self._watch.main.wait()
        self._timeline.turn("backpressure")
        with self._changed:
            self._changed.wait_for(lambda: self._queued_bytes <= 2 * PIECE_BYTES or self._error)
            self._raise_error()
            self._chunks.append((commit, rows))
            self._queued_bytes += rows.nbytes
            self._changed.notify_all()

    def close(self) -> None:
        """Announce that no chunk follows, and wait until the chunks of every rank are delivered.

        Raises:
            RunnerError: the collection has failed.
        """
        self._watch.main.wait()
        self._timeline.turn("sync_wait")
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        wait(lambda: not self._thread.is_alive())
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            decoders = [Decoder() for _ in range(self._comm.world.world_size)]
            arrived: list[np.ndarray] = []  # data of the last round, by rank
            all_done = False
            more = False
            while not all_done and not (self._abandoned and not self._chunks):
                own, header, parts = self._next_round(more)
                began = time.perf_counter()
                exchange = self._comm.start_round(header, parts)
                self._deliver(decoders, arrived, own)  # during the exchange
                wait(exchange.done)
                all_done = True
                more = False
                arrived = []
                carried = 0
                queued = []
                unfinished = []
                for rank_header, data in exchange.result():
                    magic, rank_done, is_unfinished, stop_code, queued_bytes = _HEADER.unpack(rank_header)
                    assert magic == _MAGIC, magic
                    self._stop.request(stop_code)
                    all_done &= rank_done
                    queued.append(queued_bytes)
                    unfinished.append(is_unfinished)
                    more |= queued_bytes > 0
                    carried += len(data)
                    if self._is_root:
                        arrived.append(data)
                self._allowed = self._turns.next(queued, unfinished)[self._comm.world.rank]
                if carried:
                    self._timeline.add("collect", began, time.perf_counter())
                    self.received_bytes += carried
            self._deliver(decoders, arrived, [])
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next_round(self, at_once: bool) -> tuple[list[tuple[Commit, np.ndarray]], bytes, list[memoryview]]:
        """Wait until it is time for a round.

        Returns:
            (own, header, piece): chunks of rank 0 to deliver locally, and this rank's header and piece for the round.
        """
        with self._changed:
            if not at_once:
                self._changed.wait_for(self._is_time, _PACE_SECONDS)
            chunks = self._chunks
            self._chunks = deque()
            closing = self._closing
        own = list(chunks) if self._is_root else []
        for commit, rows in chunks if not self._is_root else ():
            if self._is_direct:
                self._put_away(commit, rows, None)
            self._stream.append(deque(filter(len, frame(commit, None if self._is_direct else rows))))
        piece = self._take_piece()
        left_bytes = sum(len(part) for chunk in self._stream for part in chunk)
        self._count_queued(left_bytes + sum(rows.nbytes for _, rows in own))
        is_done = closing and not left_bytes
        return own, _HEADER.pack(_MAGIC, is_done, self._is_unfinished, self._stop.code, left_bytes), piece

    def _is_time(self) -> bool:
        return self._queued_bytes >= self._cap or self._closing or self._abandoned

    def _deliver(
        self, decoders: list[Decoder], arrived: list[np.ndarray], own: list[tuple[Commit, np.ndarray]]
    ) -> None:
        """Write and record the chunks that have arrived, and rank 0's own; on rank 0."""
        if not self._is_root:
            return
        for decoder, data in zip(decoders, arrived, strict=False):  # before the first round nothing has arrived
            for commit, rows in decoder.feed(data):
                self._put_away(commit, rows, self._record)
        for commit, rows in own:
            self._put_away(commit, rows, self._record)
        self._count_queued(0)

    def _count_queued(self, taken_bytes: int) -> None:
        """Set the queued bytes: `taken_bytes` of earlier chunks, and all chunks not yet taken."""
        with self._changed:
            self._queued_bytes = taken_bytes + sum(rows.nbytes for _, rows in self._chunks)
            self._changed.notify_all()

    def _put_away(self, commit: Commit, rows: np.ndarray | None, record: Record | None) -> None:
        began = time.perf_counter()
        self._watch.collector.begin(f"writing {row_range(commit.start, commit.stop)}")
        if rows is not None:
            self._write(commit.start, rows)
        if record is not None:
            record(commit)
        self._watch.collector.wait()
        self._timeline.add("write", began, time.perf_counter())

    def _take_piece(self) -> list[memoryview]:
        """Take the next bytes of the stream, up to the allowed number; in a turn, only a first chunk may be split."""
        parts: list[memoryview] = []
        room = self._allowed
        has_turn = self._allowed > self._turns.small
        while self._stream and room:
            chunk = self._stream[0]
            if sum(map(len, chunk)) > room and not self._turns.all_fit and (parts or not has_turn):
                break
            while chunk and room:
                part = chunk.popleft()
                if len(part) > room:
                    chunk.appendleft(part[room:])
                    part = part[:room]
                parts.append(part)
                room -= len(part)
            self._is_unfinished = bool(chunk)
            if not chunk:
                self._stream.popleft()
        return parts
