"""How far the job is, shown by rank 0 on stderr: a bar on a terminal, a line every so often in a log."""

import sys
import time
from typing import Any, TextIO

_LOG_SECONDS = 30.0


class Progress:
    """Counts rows.

    Args:
        num_rows: of the whole job.
        done_rows: those an earlier run has computed.
        where: who works on them, in words.
        stream: where to.
    """

    def __init__(self, num_rows: int, done_rows: int, where: str, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        self._num_rows, self._done, self._resumed, self._stream = num_rows, done_rows, done_rows, stream
        self._started = self._last_line = time.monotonic()
        resumed = f" ({done_rows:,} of them done by an earlier job)" if done_rows else ""
        print(f"runner: {num_rows:,} rows{resumed} on {where}", file=stream, flush=True)
        self._bar: Any = None
        if stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=num_rows, initial=done_rows, unit=" rows", unit_scale=True, file=stream)

    def add(self, rows: int) -> None:
        """Count rows that are committed now."""
        self._done += rows
        if self._bar is not None:
            self._bar.update(rows)
        elif time.monotonic() - self._last_line >= _LOG_SECONDS:
            self._last_line = time.monotonic()
            self._print_line()

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self._bar is not None:
            self._bar.close()

    def _print_line(self) -> None:
        rate = (self._done - self._resumed) / (self._last_line - self._started)
        left = (self._num_rows - self._done) / rate if rate else float("inf")
        share = self._done / self._num_rows
        print(
            f"runner: {self._done:,} of {self._num_rows:,} rows ({share:.0%}), {rate:,.0f} rows/s, {left:,.0f} s left",
            file=self._stream,
            flush=True,
        )
