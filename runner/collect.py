"""From every rank to rank 0: rolling rounds of allgather, while the ranks compute. Knows nothing of files.

Each rank has an outgoing stream of bytes: framed chunks, one after another. A round gathers, from every rank, a header
and a piece of its stream of up to a cap. At most one round is in flight; a rank starts the next when it has a full
piece, when another rank is known to have more, or when a short time has passed. Rank 0 puts the streams together
again; the others drop what they receive. Collection ends with the round in which all ranks say they are done.

Bytes are bytes: any dtype, ranks with different numbers of chunks, ranks with none. Memory is bounded: a rank whose
stream is too far ahead waits, and rank 0 holds one round and one unfinished chunk per rank.

The rounds run in a thread of their own, so that they go on during a long forward call.
"""

import json
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Self

import numpy as np
import torch

from runner.checksum import as_bytes, checksum
from runner.comm import Comm, wait
from runner.errors import RunnerError
from runner.ledger import Commit
from runner.stats import Seconds
from runner.stop import Stop
from runner.watch import Watch

Deliver = Callable[[Commit, np.ndarray], None]

# All ranks' pieces of one round together, at any number of ranks: what every rank allocates for what it receives. Far
# below the 2^31 bytes at which an MPI count overflows.
ROUND_BYTES = 64 << 20
# One rank's piece: large enough that the latency of a round does not matter.
_PIECE_BYTES = 16 << 20
# The longest time between two rounds. Shorter shows progress sooner and costs every rank more CPU time.
_PACE_SECONDS = 0.1

_ROUND_HEADER = struct.Struct(">4s?BQQ")  # magic, done, why to stop, bytes of the piece, bytes that stay queued
_FRAME_HEADER = struct.Struct(">4sI")  # magic, bytes of the description (JSON), from which those of the rows follow
_ROUND_MAGIC, _FRAME_MAGIC = b"RND1", b"FRM1"


class Collector:
    """One rank's end of the collection; made by every rank, at the same point.

    Args:
        comm: the ranks.
        deliver: called on rank 0, in the collector's thread, with every chunk of every rank.
        watch: learns what is waited for.
        stop: a request of any rank to stop reaches all through the rounds.
        seconds: where to count this rank's time.

    Attributes:
        received_bytes: what rank 0 has received of the other ranks' rows.
    """

    def __init__(self, comm: Comm, deliver: Deliver, stop: Stop, watch: Watch, seconds: Seconds) -> None:
        self._comm, self._hand_over, self._stop, self._watch, self._seconds = comm, deliver, stop, watch, seconds
        self._is_root = comm.world.rank == 0
        self._cap = min(_PIECE_BYTES, ROUND_BYTES // comm.world.world_size)
        self._changed = threading.Condition()
        self._stream: deque[memoryview] = deque()  # what goes to rank 0
        self._own: deque[tuple[Commit, np.ndarray]] = deque()  # rank 0's own chunks need no way
        self._queued_bytes = 0
        self._closing = self._abandoned = False
        self._error: BaseException | None = None
        self.received_bytes = 0
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After an error, leave nothing at work behind: what has been handed over is delivered, nothing else."""
        if kind is None or self._comm.world.world_size > 1:  # then the job ends, and this process with it
            return
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()
        self._thread.join()

    def put(self, commit: Commit, rows: np.ndarray) -> None:
        """Hand over a chunk; waits while too much is on its way.

        Args:
            commit: what there is to know of it.
            rows: its predictions, contiguous; not to be changed any more.

        Raises:
            RunnerError: collecting has failed.
        """
        began = time.perf_counter()
        self._watch.main.wait()
        with self._changed:
            self._changed.wait_for(lambda: self._queued_bytes <= 2 * self._cap or self._error)
            self._raise_error()
            if self._is_root:
                self._own.append((commit, rows))
            else:
                self._stream.extend(_frame(commit, rows))
            self._queued_bytes += rows.nbytes
            self._changed.notify_all()
        self._seconds.wait += time.perf_counter() - began

    def close(self) -> None:
        """Say that no chunk follows, and wait until every rank's are delivered.

        Raises:
            RunnerError: collecting has failed.
        """
        self._watch.main.wait()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        wait(lambda: not self._thread.is_alive())
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _deliver(self, commit: Commit, rows: np.ndarray) -> None:
        self._watch.collector.begin(f"writing rows {commit.start}..{commit.stop}")
        self._hand_over(commit, rows)
        self._watch.collector.wait()

    def _run(self) -> None:
        try:
            decoders = [_Decoder() for _ in range(self._comm.world.world_size)]
            all_done, more = False, False
            while not all_done and not (self._abandoned and not self._own):
                piece = self._next_piece(more)
                began = time.perf_counter()
                handle = self._comm.start_allgather(torch.from_numpy(piece))
                wait(partial(self._comm.poll, handle))
                gathered = self._comm.result(handle).numpy()
                all_done, more, carried = True, False, 0
                for rank, (rank_done, stop_code, queued_bytes, data) in enumerate(_split_round(gathered)):
                    self._stop.request(stop_code)
                    all_done &= rank_done
                    more |= queued_bytes > 0
                    carried += len(data)
                    if self._is_root:
                        for commit, rows in decoders[rank].feed(data):
                            self._deliver(commit, rows)
                if carried:
                    self._seconds.collect += time.perf_counter() - began
                    self.received_bytes += carried
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _ends(self) -> bool:
        return self._closing or self._abandoned

    def _next_piece(self, at_once: bool) -> np.ndarray:
        """Wait until it is time for a round; return this rank's header and piece for it."""
        with self._changed:
            if not at_once:
                self._changed.wait_for(lambda: self._queued_bytes >= self._cap or self._ends(), _PACE_SECONDS)
            own, self._own = self._own, deque()
            parts, size = [], 0
            while self._stream and size < self._cap:
                part = self._stream.popleft()
                room = self._cap - size
                if len(part) > room:
                    self._stream.appendleft(part[room:])
                    part = part[:room]
                parts.append(part)
                size += len(part)
            closing = self._closing
        for commit, rows in own:
            self._deliver(commit, rows)
        piece = np.empty(_ROUND_HEADER.size + size, np.uint8)
        position = _ROUND_HEADER.size
        for part in parts:
            piece[position : position + len(part)] = part
            position += len(part)
        with self._changed:
            queued_bytes = sum(map(len, self._stream))
            self._queued_bytes = queued_bytes + sum(rows.nbytes for _, rows in self._own)
            self._changed.notify_all()
        done = closing and not queued_bytes
        _ROUND_HEADER.pack_into(piece, 0, _ROUND_MAGIC, done, self._stop.code, size, queued_bytes)
        return piece


class _Decoder:
    """Cuts one rank's stream, which arrives in pieces, into chunks again."""

    def __init__(self) -> None:
        self._head = bytearray()  # of the frame that is arriving: header and description
        self._commit: Commit | None = None
        self._rows = self._raw = np.empty(0, np.uint8)
        self._filled = 0

    def feed(self, data: np.ndarray) -> Iterator[tuple[Commit, np.ndarray]]:
        """Take the next piece (1-D uint8); yield the chunks that are complete with it."""
        while len(data):
            if self._commit is None:
                data = self._feed_head(data)
            count = min(len(data), len(self._raw) - self._filled)
            self._raw[self._filled : self._filled + count] = data[:count]
            self._filled += count
            data = data[count:]
            if self._commit is not None and self._filled == len(self._raw):
                if checksum(self._rows) != self._commit.checksum:
                    raise RunnerError(
                        f"rows {self._commit.start}..{self._commit.stop} of rank {self._commit.rank} "
                        "were damaged on their way to rank 0 (checksum)"
                    )
                yield self._commit, self._rows
                self._commit, self._head, self._raw, self._filled = None, bytearray(), np.empty(0, np.uint8), 0

    def _feed_head(self, data: np.ndarray) -> np.ndarray:
        data = self._fill_head(data, _FRAME_HEADER.size)
        if len(self._head) < _FRAME_HEADER.size:
            return data
        magic, description_bytes = _FRAME_HEADER.unpack_from(self._head)
        assert magic == _FRAME_MAGIC, magic
        data = self._fill_head(data, _FRAME_HEADER.size + description_bytes)
        if len(self._head) == _FRAME_HEADER.size + description_bytes:
            description = json.loads(self._head[_FRAME_HEADER.size :])
            self._rows = np.empty(description["shape"], description["dtype"])
            self._raw = self._rows.reshape(-1).view(np.uint8)
            self._commit = Commit(**description["commit"])
        return data

    def _fill_head(self, data: np.ndarray, size: int) -> np.ndarray:
        count = max(0, size - len(self._head))
        self._head += data[:count].tobytes()
        return data[count:]


def _frame(commit: Commit, rows: np.ndarray) -> list[memoryview]:
    description = json.dumps({"commit": asdict(commit), "dtype": rows.dtype.str, "shape": rows.shape}).encode()
    head = _FRAME_HEADER.pack(_FRAME_MAGIC, len(description)) + description
    return [memoryview(head), as_bytes(rows)]


def _split_round(gathered: np.ndarray) -> Iterator[tuple[bool, int, int, np.ndarray]]:
    """Per rank: whether it is done, why it wants to stop (or 0), the bytes it has still queued, and its piece."""
    position = 0
    while position < len(gathered):
        magic, done, stop_code, size, queued_bytes = _ROUND_HEADER.unpack_from(gathered, position)
        assert magic == _ROUND_MAGIC, magic
        position += _ROUND_HEADER.size
        yield done, stop_code, queued_bytes, gathered[position : position + size]
        position += size
