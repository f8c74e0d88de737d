"""Where a live display may be drawn, and drawing there without harm to what others print on the same terminal.

Under mpirun and horovodrun rank 0's stderr is a pipe to the launcher. But where the launcher's own stderr is the
terminal that this process belongs to, and not a log, the display can be drawn on that terminal itself.

Whatever else appears there must stay readable, and a process may be killed at any moment. So the cursor is never
hidden, and waits below the display, where a shell's prompt or a launcher's last word can follow. Before the display is
drawn over, it is made sure that nobody else has written below it: the launcher, which passes on what the ranks print,
by the kernel's count of its bytes; this process by a look at what goes through its own streams.
"""

import contextlib
import os
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from runner.host.command_line import launchers_above
from runner.host.launch import read_variables

_CONTROLLING = "/dev/tty"
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2.0, 60.0  # to redraw after others have printed, doubled each time
_PATIENCE = 0.97  # and made shorter again with each time that nobody has printed

Line = tuple[str, int]  # with its colors, and how many columns it takes


def find_screen(stream: TextIO | None = None) -> "Screen | None":
    """The terminal to draw on; None where the output goes to a log, or its reader would not be served.

    Args:
        stream: where messages of this process go; sys.stderr by default.
    """
    stream = stream or sys.stderr
    if read_variables(["TERM"]).get("TERM", "dumb") in ("dumb", "unknown"):
        return None
    with contextlib.suppress(OSError, ValueError, termios.error):
        if stream.isatty():
            own = {other for other in (stream, sys.stdout, sys.stderr) if other is not None and other.isatty()}
            screen = Screen(os.dup(stream.fileno()), [], list(own))
        else:
            launchers = _launchers_on_this_terminal()
            if not launchers:
                return None
            screen = Screen(os.open(_CONTROLLING, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC), launchers, [])
        if screen.may_draw():
            return screen
        screen.close()
    return None


def _launchers_on_this_terminal() -> list[int]:
    """The launchers above this process, where the outermost shows what it gets on the terminal of this process."""
    import psutil  # on rank 0 alone

    found, terminal = [pid for pid, _ in launchers_above()], None
    with contextlib.suppress(psutil.Error):
        terminal = psutil.Process().terminal()
    if not found or not all(os.access(f"/proc/{pid}/io", os.R_OK) for pid in found):
        return []
    out, err = (os.readlink(f"/proc/{found[-1]}/fd/{number}") for number in (1, 2))
    # a pipe behind stdout ends at a program, such as tee, that writes to the terminal when it likes
    return found if terminal == err and not out.startswith("pipe:") else []


class Screen:
    """The lines of a terminal from the cursor up, drawn again and again.

    Args:
        fd: of the terminal; closed in the end.
        launchers: processes that write to it, too.
        streams: of this process, that lead to it, too.
    """

    def __init__(self, fd: int, launchers: Sequence[int], streams: Sequence[TextIO]) -> None:
        self._fd, self._launchers = fd, launchers
        self._drawn: list[int] = []  # the columns that each line takes which is to be drawn over
        self._lock = threading.RLock()
        self._written = -1
        self._is_line_open = self._is_disturbed = False
        self._pause_seconds, self._quiet_until = _FIRST_PAUSE_SECONDS, 0.0
        self._streams = streams if not launchers else []
        for stream in self._streams:
            # patched and not replaced: handlers of logging keep the stream itself
            stream.write = self._passing_on(stream.write)  # type: ignore[method-assign]

    def size(self) -> tuple[int, int]:
        """Columns and lines, at this moment."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._fd)
            if columns and lines:
                return columns, lines
        return 80, 24

    def may_draw(self) -> bool:
        """Whether the terminal is ours now: in the background, writing might even stop us."""
        try:
            front = os.tcgetpgrp(self._fd)
        except OSError:
            return os.isatty(self._fd)  # not the terminal of this session: nobody else's matter
        try:
            own = os.getpgid(self._launchers[-1]) if self._launchers else os.getpgrp()
            return front == own and not termios.tcgetattr(self._fd)[3] & termios.TOSTOP
        except (OSError, termios.error):
            return False

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw these lines over those drawn before; not where the moment is wrong."""
        with self._lock:
            if self._is_line_open or not self.may_draw():
                self._is_disturbed = self._is_disturbed or bool(self._drawn)
                self._forget()
                return
            lines = lines[: self.size()[1] - 1]  # what has left the screen at its top cannot be drawn over
            written = self._bytes_of_launchers()
            if self._drawn and written != self._written:
                # somebody has printed below: what he said stays, and the display begins anew, in a while
                self._forget()
                self._is_disturbed = True
                self._quiet_until = time.monotonic() + self._pause_seconds
                self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
            self._written = written
            if time.monotonic() >= self._quiet_until:
                begin = "\r\n" if self._is_disturbed else self._erasing()  # their last line may be open
                self._write(begin + "".join(f"{text}\r\n" for text, _ in lines))
                self._is_disturbed = False
                self._drawn = [columns for _, columns in lines]
                self._pause_seconds = max(_PATIENCE * self._pause_seconds, _FIRST_PAUSE_SECONDS)

    def finish(self, lines: Sequence[Line]) -> None:
        """Leave these lines behind."""
        with self._lock:
            self.draw(lines)
            if not self._drawn:  # others have printed, or shall have
                self._quiet_until = 0.0
                self.draw(lines)
            self.close()

    def close(self) -> None:
        """Leave the terminal to others."""
        with self._lock:
            for stream in self._streams:
                del stream.write
            self._streams = []
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _passing_on(self, write: Callable[[str], int]) -> Callable[[str], int]:
        def erase_and_write(text: str) -> int:
            with self._lock:
                if self._drawn and text:
                    self._write(self._erasing())
                    self._forget()
                if text:
                    self._is_line_open = not text.endswith("\n")
                return write(text)

        return erase_and_write

    def _erasing(self) -> str:
        """What moves the cursor to the first of the drawn lines, and erases from there on."""
        columns = self.size()[0]
        # a terminal that has become narrower has broken the lines that did not fit any more
        rows = sum(max(1, -(-line // columns)) for line in self._drawn)
        return f"\r\x1b[{rows}A\x1b[J" if rows else ""

    def _forget(self) -> None:
        self._drawn = []

    def _bytes_of_launchers(self) -> int:
        total = 0
        for pid in self._launchers:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/io") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("wchar:"))
        return total

    def _write(self, text: str) -> None:
        data = text.encode()
        with contextlib.suppress(OSError):  # the terminal is gone: the job goes on
            while data:
                data = data[os.write(self._fd, data) :]
