"""Early stop of a rank's loop, by a signal or the time limit. Knows no other ranks."""

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

from runner.core.errors import EXIT_STOPPED
from runner.host.process import Origin, launcher_stderr

# Sent by people, shells, launchers and schedulers before they kill; XCPU at a limit of CPU time.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # at which mpirun ends its ranks; others it passes on

# Reasons to stop early, by the code that ranks send one another.
REASONS = {1: "a signal", 2: "the time limit", 3: "the end of its launcher"}
_SIGNAL, _TIME, _ORPHAN = REASONS

_ORPHAN_POLL_SECONDS = 0.5
_ORPHAN_GRACE_SECONDS = 3.0  # for the chunks in hand: Open MPI leaves ranks that it knows of even less
_taken_over = threading.Event()  # a Stop has taken over from `leave_on_signal`


class Stop:
    """A request to stop, from a signal, the clock or another rank; it is never taken back.

    Args:
        deadline: when this process must have ended, in seconds since the epoch; None for no limit.
        notice: see Attributes.
        origin: processes with which this one stops: its launcher; None for none.

    Attributes:
        code: reason to stop, a key of REASONS; 0 as long as there is none.
        margin_seconds: time kept free before the deadline, to collect and flush the computed chunks.
        notice: printed on stderr when a signal comes; empty for nothing.
    """

    def __init__(self, deadline: float | None, notice: str = "", origin: Origin | None = None) -> None:
        self.code = 0
        self.margin_seconds = 3.0
        self._deadline = deadline
        self.notice = notice
        self._origin = origin
        self._ended = threading.Event()
        self._longest_chunk_seconds = 0.0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stop":
        _taken_over.set()
        if self._origin:
            threading.Thread(target=self._end_with, args=[self._origin], name="origin", daemon=True).start()
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            self._former = {number: signal.signal(number, self._on_signal) for number in _handled()}
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for number, handler in self._former.items():
            # a job that is complete by now has not been stopped
            signal.signal(number, signal.SIG_IGN if isinstance(handler, _Leave) else handler)

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

    def _end_with(self, origin: Origin) -> None:
        """Stop when the launcher has ended; a long chunk, or a model that is being loaded, ends this process soon."""
        if _has_ended(origin, self._ended):
            self.request(_ORPHAN)
            if not self._ended.wait(_ORPHAN_GRACE_SECONDS):
                os._exit(EXIT_STOPPED)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.code and number == signal.SIGINT:  # a second request by hand: stop at once
            raise KeyboardInterrupt
        if not self.code and self.notice:
            _tell(self.notice, number)
        self.request(_SIGNAL)


def leave_on_signal(notice: str, origin: Origin | None = None) -> None:
    """Let a signal end this process at once, with the exit code of a stop, until a `Stop` takes over.

    It is for the time in which Python imports: nothing has been begun that could be lost.

    Args:
        notice: printed on stderr then; empty for nothing.
        origin: processes whose end has the same effect: this one's launcher; None for none.
    """
    for number in _handled():
        signal.signal(number, _Leave(notice))

    def leave_with(origin: Origin) -> None:
        if _has_ended(origin, _taken_over):
            os._exit(EXIT_STOPPED)

    if origin:
        _taken_over.clear()
        threading.Thread(target=leave_with, args=[origin], name="origin", daemon=True).start()


def _has_ended(origin: Origin, until: threading.Event) -> bool:
    """Wait for the end of a launcher, and return True; or until the event, and return False."""
    while not until.wait(_ORPHAN_POLL_SECONDS):
        if origin.has_ended():
            return True
    return False


def _tell(notice: str, number: int) -> None:
    """Print a line on stderr; or, where a launcher drops what ranks print after this signal, past the launcher."""
    places = ["/dev/tty"]
    if number in _ENDING:
        places.append(launcher_stderr())
    for place in filter(None, places):
        with contextlib.suppress(OSError):
            opened = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
            os.write(opened, f"\r\n{notice}\r\n".encode() if os.isatty(opened) else f"{notice}\n".encode())
            os.close(opened)
            return
    with contextlib.suppress(OSError):  # who reads has ended, or the terminal is gone
        os.write(2, f"\n{notice}\n".encode())


def _handled() -> list[signal.Signals]:
    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in SIGNALS if number != signal.SIGHUP or not is_nohup]


@dataclass(frozen=True)
class _Leave:
    notice: str

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.notice:
            _tell(self.notice, number)
        else:
            time.sleep(1.0)  # when one rank has left, the launcher ends the others, before they have said why
        os._exit(EXIT_STOPPED)
