"""Terminal of a live display: where it may be drawn, and drawing without harm to what others print there.

Under mpirun and horovodrun rank 0's stderr is a pipe to the launcher. But if the launcher's own stderr is the terminal
that this process belongs to, and not a log, the display can be drawn on that terminal itself.

All other output there must stay readable, and a process may be killed at any moment. So the cursor is never hidden, and
waits below the display, where a shell's prompt or a launcher's last message can follow. Before the display is drawn
again, a check makes sure that nobody else has written below it: the launcher, which passes on what the ranks print, is
checked by the kernel's count of its bytes; this process by the writes to its own streams.
"""

import contextlib
import os
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from runner.core.printable import printable
from runner.host.command_line import launchers_above
from runner.host.launch import read_variables

_CONTROLLING = "/dev/tty"
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2.0, 60.0  # until a redraw after others' output; doubled each time
_PATIENCE = 0.97  # the factor by which it shrinks again each time that nobody has printed

Line = tuple[str, int]  # text with its colors, and its width in columns


def find_screen(stream: TextIO | None = None) -> "Screen | None":
    """Return the terminal to draw on; None if the output goes to a log, or a display cannot or must not be drawn.

    Args:
        stream: destination of the messages of this process; sys.stderr by default.
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


def tell_on_terminal(words: str) -> None:
    """Print a message where a display would be drawn, as somebody waits there; called by rank 0."""
    if screen := find_screen():
        screen.close()
        with contextlib.suppress(OSError, ValueError):
            print(f"runner: {printable(words)}", file=sys.stderr, flush=True)


def _launchers_on_this_terminal() -> list[int]:
    """Return the launchers above this process, if the outermost one's stderr is the terminal of this process."""
    import psutil  # imported on rank 0 alone

    pids, terminal = [pid for pid, _ in launchers_above()], None
    with contextlib.suppress(psutil.Error):
        terminal = psutil.Process().terminal()
    if not pids or not all(os.access(f"/proc/{pid}/io", os.R_OK) for pid in pids):
        return []
    out, err = (os.readlink(f"/proc/{pids[-1]}/fd/{number}") for number in (1, 2))
    # a pipe behind stdout ends at a program, such as tee, that may write to the terminal at any time
    return pids if terminal == err and not out.startswith("pipe:") else []


class Screen:
    """Lines of a terminal from the cursor up, drawn again and again.

    Args:
        fd: file descriptor of the terminal; closed in the end.
        launchers: processes that write to it, too.
        streams: streams of this process that lead to it, too.
    """

    def __init__(self, fd: int, launchers: Sequence[int], streams: Sequence[TextIO]) -> None:
        self._fd, self._launchers = fd, launchers
        self._drawn: list[int] = []  # columns of each line that will be drawn over
        self._lock = threading.RLock()
        self._written = -1
        self._is_line_open = self._is_disturbed = False
        self._pause_seconds, self._quiet_until = _FIRST_PAUSE_SECONDS, 0.0
        self._streams = streams if not launchers else []
        for stream in self._streams:
            # patched and not replaced: logging handlers hold the stream itself
            stream.write = self._passing_on(stream.write)  # type: ignore[method-assign]

    def size(self) -> tuple[int, int]:
        """Return the current columns and lines of the terminal."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._fd)
            if columns and lines:
                return columns, lines
        return 80, 24

    def may_draw(self) -> bool:
        """Return whether the terminal is ours now: in the background, writing might even stop this process."""
        try:
            front = os.tcgetpgrp(self._fd)
        except OSError:
            return os.isatty(self._fd)  # not the terminal of this session: no other job to disturb
        try:
            own = os.getpgid(self._launchers[-1]) if self._launchers else os.getpgrp()
            return front == own and not termios.tcgetattr(self._fd)[3] & termios.TOSTOP
        except (OSError, termios.error):
            return False

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw these lines over those drawn before, unless others use the terminal or have just printed."""
        with self._lock:
            if self._is_line_open or not self.may_draw():
                self._is_disturbed = self._is_disturbed or bool(self._drawn)
                self._forget()
                return
            lines = lines[: self.size()[1] - 1]  # lines that have left the screen at its top cannot be drawn over
            written = self._bytes_of_launchers()
            if self._drawn and written != self._written:
                # someone has printed below: that output stays, and the display begins anew after a pause
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
        """Draw the last lines, which stay, and close the terminal."""
        with self._lock:
            self.draw(lines)
            if not self._drawn:  # others have printed, or the pause is not over
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
        """Return the codes that move the cursor to the first of the drawn lines, and erase from there on."""
        columns = self.size()[0]
        # a terminal that has become narrower wraps the lines that no longer fit
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
