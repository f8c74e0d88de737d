"""Early stop of a rank's loop, by a signal or the time limit. Knows no other ranks."""

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # sent by launchers and schedulers before they kill

# Reasons to stop early, by the code that ranks send one another.
REASONS = {1: "a signal", 2: "the time limit"}
_SIGNAL, _TIME = REASONS


class Stop:
    """A request to stop, from a signal, the clock or another rank; it is never taken back.

    Args:
        deadline: when this process must have ended, in seconds since the epoch; None for no limit.

    Attributes:
        code: reason to stop, a key of REASONS; 0 as long as there is none.
        margin_seconds: time kept free before the deadline, to collect and flush the computed chunks.
    """

    def __init__(self, deadline: float | None) -> None:
        self.code = 0
        self.margin_seconds = 3.0
        self._deadline = deadline
        self._longest_chunk_seconds = 0.0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            self._former = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def request(self, code: int) -> None:
        """Request a stop for this reason, unless there is one already."""
        self.code = self.code or code

    def may_start(self) -> bool:
        """Return whether a chunk that takes as long as the longest so far can still be finished in time."""
        if self._deadline is not None:
            left_seconds = self._deadline - time.time() - self.margin_seconds
            if left_seconds < self._longest_chunk_seconds:
                self.request(_TIME)
        return not self.code

    def took(self, seconds: float) -> None:
        """Note how long a chunk took."""
        self._longest_chunk_seconds = max(self._longest_chunk_seconds, seconds)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.code and number == signal.SIGINT:  # a second request by hand: stop at once
            raise KeyboardInterrupt
        self.request(_SIGNAL)
