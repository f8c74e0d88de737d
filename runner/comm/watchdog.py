"""Watchdog against hangs: a thread on every rank that ends the job when a rank makes no progress or falls silent.

Each rank reports its own activity (`Activity`). If it does the same thing for too long, its own watchdog ends the job.
A rank that cannot report any more, because it is stopped, or its host or network is gone, is missed by the next rank:
the ranks form a ring, and each sends the next one a heartbeat every second.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.comm import Comm
from runner.core.errors import RunnerError

_BEAT_SECONDS = 1.0


@dataclass
class Activity:
    """Current activity of one thread.

    Attributes:
        what: the activity in words; empty while it waits for others, who are then to blame.
        since: when it began, by the monotonic clock, in seconds.
    """

    what: str = ""
    since: float = field(default_factory=time.monotonic)

    def begin(self, what: str) -> None:
        """Begin another activity."""
        self.since = time.monotonic()  # first, as another thread compares it with the limit
        self.what = what

    def wait(self) -> None:
        """Begin to wait for others."""
        self.begin("")


class Watchdog:
    """Watchdog that ends the job, with a message, if this rank or the previous one in the ring hangs.

    Args:
        comm: the ranks.
        timeout_seconds: the longest that one activity may take.
        note: records the error that ends the job.

    Attributes:
        main: activity of the main thread.
        collector: activity of the collector's thread.
    """

    def __init__(
        self, comm: Comm, timeout_seconds: float, note: Callable[[RunnerError], object] = lambda _: None
    ) -> None:
        self._note = note
        self.main = Activity("starting")
        self.collector = Activity()
        self._comm = comm
        self._timeout = timeout_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        heard = time.monotonic()
        last_words = ""
        ticked = heard
        while not self._ended.is_set():
            now = time.monotonic()
            if (gap := now - ticked - _BEAT_SECONDS) > 2 * _BEAT_SECONDS:
                # this process was suspended, as perhaps all were: that time counts against nobody
                heard += gap
                self.main.since += gap
                self.collector.since += gap
            ticked = now
            beats = self._comm.beat(self.main.what)
            if beats is None:
                heard = now  # there is no previous rank
            elif beats:
                heard = now
                last_words = beats[-1]
            for activity in (self.main, self.collector):
                seconds = now - activity.since
                if activity.what and seconds > self._timeout:
                    self._end(f"no progress for {seconds:.0f} s while {activity.what}")
            if now - heard > self._timeout + 2 * _BEAT_SECONDS:  # it has had the time to report its error itself
                self._end(
                    f"{self._comm.previous} has been silent for {now - heard:.0f} s"
                    + (f", and was last {last_words}" if last_words else "")
                    + ": it is stopped, or its host or network is down"
                )
            self._ended.wait(_BEAT_SECONDS)

    def _end(self, message: str) -> None:
        error = RunnerError(f"{message}. The job ends (--stall-timeout {self._timeout:g}); the same command resumes")
        self._note(error)
        self._comm.abort(error)
        self._ended.set()  # the kernel of a notebook is still there
