"""Nothing hangs: a thread on every rank that ends the job when a rank makes no progress or has fallen silent.

What a rank is doing is told by itself (`Activity`). If it does the same thing for too long, its own watch says so. A
rank that cannot say anything any more, because it is stopped, or its host or network is gone, is missed by the next
rank: the ranks form a ring, and each sends the next a sign of life every second.
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
    """What one thread is doing.

    Attributes:
        what: in words; empty while it waits for others, who then are the ones to blame.
        since: when it began, by the monotonic clock.
    """

    what: str = ""
    since: float = field(default_factory=time.monotonic)

    def begin(self, what: str) -> None:
        """Do something else from now on."""
        self.what, self.since = what, time.monotonic()

    def wait(self) -> None:
        """Wait for others from now on."""
        self.begin("")


class Watchdog:
    """Ends the job, with a message, when this rank or the one before it in the ring hangs.

    Args:
        comm: the ranks.
        timeout_seconds: the longest that one thing may take.
        note: keeps the error that ends the job.

    Attributes:
        main: what the main thread is doing.
        collector: what the thread that collects is doing.
    """

    def __init__(
        self, comm: Comm, timeout_seconds: float, note: Callable[[RunnerError], object] = lambda _: None
    ) -> None:
        self._note = note
        self.main, self.collector = Activity("starting"), Activity()
        self._comm, self._timeout = comm, timeout_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        heard, last_words = time.monotonic(), ""
        ticked = heard
        while not self._ended.is_set():
            now = time.monotonic()
            if (gap := now - ticked - _BEAT_SECONDS) > 2 * _BEAT_SECONDS:
                # this process was suspended, as then all may have been: that time counts against nobody
                heard += gap
                self.main.since += gap
                self.collector.since += gap
            ticked = now
            beats = self._comm.beat(self.main.what)
            if beats is None:
                heard = now  # there is no rank before this one
            elif beats:
                heard, last_words = now, beats[-1]
            for activity in (self.main, self.collector):
                seconds = now - activity.since
                if activity.what and seconds > self._timeout:
                    self._end(f"no progress for {seconds:.0f} s while {activity.what}")
            if now - heard > self._timeout + 2 * _BEAT_SECONDS:  # it has had the time to speak for itself
                self._end(
                    f"{self._comm.previous} has been silent for {now - heard:.0f} s"
                    + (f", and was last {last_words}" if last_words else "")
                    + ": it is stopped, or its host or network is gone"
                )
            self._ended.wait(_BEAT_SECONDS)

    def _end(self, message: str) -> None:
        error = RunnerError(f"{message}. The job ends (--stall-timeout {self._timeout:g}); the same command goes on")
        self._note(error)
        self._comm.fail(error)
