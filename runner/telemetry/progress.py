"""Progress of a job, shown by rank 0 while it runs: on a terminal, in a notebook, a log, `status.json`, to Prometheus.

A separate thread looks at the counts now and then; a commit only adds to them. Errors of files and terminals are
ignored here: the job is what matters.
"""

import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from runner.chunks.commit import Commit
from runner.core.atomic import write_text
from runner.core.messages import tell
from runner.host.notebook import in_notebook
from runner.telemetry.notebook import NotebookView
from runner.telemetry.status import Status
from runner.telemetry.status_text import first_line, line
from runner.telemetry.tally import Start, Tally
from runner.telemetry.terminal import Screen, find_screen

if TYPE_CHECKING:
    from runner.telemetry.prometheus import Metrics

STATUS = "status.json"
_STATUS_SECONDS = 2.0
_DRAW_SECONDS = 1.0
# So long between two lines in a log, while the job is younger than this: a day's job should not fill pages.
_LOG_SECONDS = ((300, 30.0), (900, 60.0), (3600, 120.0), (4 * 3600, 300.0), (float("inf"), 600.0))
_LAST_WAIT_SECONDS = 5.0  # for a file system that hangs


class View(Protocol):
    """Progress view for a person.

    Attributes:
        seconds: time between two looks at the job.
    """

    seconds: float

    def show(self, status: Status) -> None:
        """Show the current status."""

    def close(self, status: Status | None) -> None:
        """Leave the terminal or log tidy; `status` is None if it is not known."""


class LogView:
    """View in a log: a line every so often; no control characters."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._began = stream, time.monotonic()
        self._last = self._began
        self.seconds = _STATUS_SECONDS

    def show(self, status: Status) -> None:
        now = time.monotonic()
        seconds = next(seconds for age, seconds in _LOG_SECONDS if now - self._began < age)
        if now - self._last >= seconds and status.done_rows < status.num_rows:
            self._last = now
            tell(line(status), self._stream)

    def close(self, status: Status | None) -> None:
        pass


class TerminalView:
    """Live display on a terminal."""

    def __init__(self, screen: Screen) -> None:
        from runner.telemetry.display import Display  # only here: rich takes its time to import

        self._screen, self._display = screen, Display()
        self.seconds = _DRAW_SECONDS

    def show(self, status: Status) -> None:
        self._screen.draw(self._display.lines(status, *self._screen.size()))

    def close(self, status: Status | None) -> None:
        self._screen.finish(self._display.last_lines(status, self._screen.size()[0]) if status else [])


def find_view(stream: TextIO | None = None) -> View:
    """Choose the view that suits the destination of this process's messages (sys.stderr by default)."""
    screen = find_screen(stream)
    return TerminalView(screen) if screen else LogView(stream or sys.stderr)


class Progress:
    """Progress of one job: counts committed chunks, and shows them.

    Args:
        start: the job at its start.
        folder: folder of `status.json`; None for none.
        metrics: metrics for Prometheus; None for none.
        stream: destination of messages; by default sys.stderr.
    """

    def __init__(
        self, start: Start, folder: Path | None = None, metrics: "Metrics | None" = None, stream: TextIO | None = None
    ) -> None:
        self._tally = Tally(start)
        self._folder = folder
        self._metrics = metrics
        self._stream = stream
        self._ended = threading.Event()
        title = first_line(start.num_rows, start.resumed_rows + start.quarantined_rows, start.where)
        self._view: View | None = NotebookView(title) if stream is None and in_notebook() else None
        if self._view is None:
            tell(title, stream)
        if metrics:
            metrics.begin(self._tally.status)
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def add(self, commit: Commit) -> None:
        """Count a committed chunk."""
        self._tally.add(commit.rank, commit.stop - commit.start, commit.seconds, len(commit.bad))

    def close(self) -> None:
        """Show the end of the job, and leave the terminal tidy."""
        self._ended.set()
        self._thread.join(_LAST_WAIT_SECONDS)

    def _run(self) -> None:
        status = self._tally.status()
        self._keep(status)
        kept = time.monotonic()
        view = self._view or find_view(self._stream)
        while not self._ended.wait(view.seconds):
            status = self._tally.status()
            view.show(status)
            if time.monotonic() - kept >= _STATUS_SECONDS:
                self._keep(status)
                kept = time.monotonic()
        status = self._tally.status(ended=True)
        view.close(status)
        self._keep(status)

    def _keep(self, status: Status) -> None:
        if self._metrics:
            self._metrics.write(status)
        if self._folder is None:
            return
        with contextlib.suppress(OSError):  # a storage that fails shows where rows are written
            write_text(self._folder / STATUS, status.to_json())
