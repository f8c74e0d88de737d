"""The count of commits on rank 0, from which the status of a running job comes."""

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from runner.telemetry.status import RankStatus, Status, median

# The speed of the job is that of its last minute, and of at least so many samples: chunks may take longer than that.
_RECENT_SECONDS = 60.0
_SAMPLE_SECONDS = 0.5
_FEWEST_SAMPLES = 3
# The speed of a rank is an average that forgets what is older than this, but not more than this much with one chunk.
_FORGET_SECONDS, _MOST_FORGOTTEN = 20.0, 0.3
_SLOW = 0.5  # of the median: slower is a straggler
_EVIDENCE_SECONDS = 2.0  # a rank is not judged by less than this
_SILENT, _SILENT_SECONDS = 3.0, 5.0  # times what its chunks usually take, and never less than these seconds


@dataclass(frozen=True)
class Start:
    """Facts of a job at its start; see `Status`.

    Attributes:
        shares: rows that each rank is to compute; None with dynamic scheduling.
        group_size: number of ranks that hold one replica of the model together; only the first of each group counts.
    """

    num_rows: int
    resumed_rows: int
    quarantined_rows: int
    world_size: int
    launcher: str
    where: str
    started: float
    shares: Sequence[int] | None
    group_size: int = 1
    output: str = ""


class Tally:
    """Counts of committed rows; gives the status of the job to any thread.

    Args:
        start: the job at its start.
    """

    def __init__(self, start: Start) -> None:
        self._start, self._lock = start, threading.Lock()
        self._done, self._bad = start.resumed_rows + start.quarantined_rows, start.quarantined_rows
        self._latest, self._is_first = time.monotonic(), True
        self._samples = deque([(self._latest, self._done)])  # moments, and the rows that were done then
        self._ranks = [_RankTally(self._latest) for _ in range(0, start.world_size, start.group_size)]

    def add(self, rank: int, rows: int, seconds: float, bad: int) -> None:
        """Count a committed chunk.

        Args:
            rank: the rank that has computed it.
            rows, bad: number of its rows, and of those that failed.
            seconds: time that the rank took for it.
        """
        now = time.monotonic()
        with self._lock:
            if self._is_first:  # what came before the first chunk is neither speed nor silence
                self._is_first, began = False, max(self._samples[0][0], now - seconds)
                self._samples[0] = (began, self._done)
                for other in self._ranks:
                    other.latest = began
            self._done = self._done + rows
            self._bad = self._bad + bad
            self._latest = now
            if now - self._samples[-1][0] >= _SAMPLE_SECONDS:
                self._samples.append((now, self._done))
            self._ranks[rank // self._start.group_size].add(now, rows, seconds)

    def status(self, ended: bool = False) -> Status:
        """Return the current status of the job."""
        now, start = time.monotonic(), self._start
        with self._lock:
            while len(self._samples) > _FEWEST_SAMPLES and self._samples[1][0] < now - _RECENT_SECONDS:
                self._samples.popleft()
            since, before = self._samples[0]
            speed = (self._done - before) / max(now - since, 1e-3)
            ranks = [
                RankStatus(
                    index * start.group_size,
                    rank.rows,
                    start.shares[index] if start.shares else None,
                    round(now - rank.latest, 3),
                    round(rank.pace, 3),
                )
                for index, rank in enumerate(self._ranks)
            ]
            return Status(
                time=time.time(),
                started=start.started,
                num_rows=start.num_rows,
                done_rows=self._done,
                resumed_rows=start.resumed_rows,
                quarantined_rows=self._bad,
                rows_per_second=round(speed, 3),
                seconds_left=self._seconds_left(now, speed, ranks),
                world_size=start.world_size,
                launcher=start.launcher,
                where=start.where,
                ranks=ranks,
                stragglers=[] if ended else self._stragglers(now, ranks),
                ended=ended,
                output=start.output,
            )

    def _seconds_left(self, now: float, speed: float, ranks: list[RankStatus]) -> float | None:
        """Return the longer estimate, by the speed of all and of the last rank; None while no chunk comes in."""
        left = self._start.num_rows - self._done
        if not left:
            return 0.0
        if not speed or now - self._latest > max(_SILENT_SECONDS, _SILENT * self._usual_of_all()):
            return None
        own = [(r.share - r.rows) / r.rows_per_second for r in ranks if r.share is not None and r.rows_per_second]
        return round(max([left / speed, *own]), 1)

    def _stragglers(self, now: float, ranks: list[RankStatus]) -> list[int]:
        if len(ranks) == 1 or self._done == self._start.num_rows:
            return []
        usual_pace = median([rank.pace for rank in self._ranks if rank.pace] or [0.0])
        usual_of_all = self._usual_of_all()
        slow, silent = set(), set()
        for rank, counted in zip(ranks, self._ranks, strict=True):
            if rank.share is not None and rank.rows >= rank.share:
                continue
            if counted.seconds >= _EVIDENCE_SECONDS and counted.pace < _SLOW * usual_pace:
                slow.add(rank.rank)
            # where there are no shares, ranks that found nothing more to take fall silent with the last of the others
            silence = (now if rank.share is not None else self._latest) - counted.latest
            if silence > max(_SILENT_SECONDS, _SILENT * (counted.usual or usual_of_all)):
                silent.add(rank.rank)
        if len(silent) > len(ranks) / 2:  # then it is not these ranks that keep the others waiting
            silent.clear()
        return sorted(slow | silent)

    def _usual_of_all(self) -> float:
        return median([rank.usual for rank in self._ranks if rank.usual] or [math.inf])


class _RankTally:
    """Averages of one rank, over the time that it was at work."""

    def __init__(self, began: float) -> None:
        self.latest, self.rows = began, 0
        self.seconds = self._recent_rows = self._chunks = 0.0

    def add(self, now: float, rows: int, seconds: float) -> None:
        keep = max(math.exp(-seconds / _FORGET_SECONDS), 1 - _MOST_FORGOTTEN)
        self.latest, self.rows = now, self.rows + rows
        self._recent_rows = keep * self._recent_rows + rows
        self.seconds = keep * self.seconds + seconds
        self._chunks = keep * self._chunks + 1

    @property
    def pace(self) -> float:
        """Rows per second."""
        return self._recent_rows / self.seconds if self.seconds else 0.0

    @property
    def usual(self) -> float:
        """Usual time of a chunk, in seconds; 0 before the first."""
        return self.seconds / self._chunks if self._chunks else 0.0
