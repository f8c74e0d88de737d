"""Live display of a job: a bar for all rows, and one for each rank or, with many ranks, for three that stand for all.

Knows the looks of the display, not where it is drawn.
"""

import io
import re

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runner.core.printable import printable
from runner.core.text import rate, rough_duration
from runner.telemetry.status import RankStatus, Status
from runner.telemetry.status_text import done, figures, stragglers, why
from runner.telemetry.terminal import Line

_MOST_BARS = 16  # of ranks
_OTHER_LINES = 7  # of the display and below it
_NARROW = 60  # columns: below this, there is no room for all words
_MOST_COLUMNS = 160  # a longer bar is not easier to read
_SHORTEST_BAR = 8
_LONGEST_NAME = 24  # columns of the output's name
_GOING, _BEHIND = "cyan", "yellow"
_COLORS = re.compile(r"\x1b\[[\d;]*m")


class Display:
    """Maker of the lines of a display, each at most as wide as the terminal."""

    def __init__(self) -> None:
        self._console = Console(
            file=io.StringIO(),
            width=_MOST_COLUMNS,
            force_terminal=True,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def lines(self, status: Status, columns: int, lines: int) -> list[Line]:
        """Return all lines of the display; for arguments see `picture`."""
        return self._render(self.picture(status, columns, lines), columns)

    def last_lines(self, status: Status, columns: int) -> list[Line]:
        """Return the lines that stay when the job has ended."""
        return self._render(self.last_picture(status, columns), columns)

    def picture(self, status: Status, columns: int, lines: int) -> RenderableType:
        """Return the display in a form that rich can print.

        Args:
            status: status of the job.
            columns, lines: size of the terminal.
        """
        room = min(_MOST_BARS, lines - _OTHER_LINES)
        shown: list[RenderableType] = [self.last_picture(status, columns)]
        if len(status.ranks) > 1 and room >= 2:
            is_each = len(status.ranks) <= room
            shown.append(self._ranks(status, columns, status.ranks if is_each else None))
            if status.stragglers and not is_each:
                shown.append(Text(f"behind the others: {', '.join(stragglers(status))}", _BEHIND))
        return Group(*shown)

    def last_picture(self, status: Status, columns: int) -> RenderableType:
        """Return what stays of the display when the job has ended: the bar of all rows."""
        words = [done(status), *figures(status)]
        label = _label(status) if columns >= _NARROW else ""
        label_width = cell_len(label)
        bar = Table.grid(padding=(0, 1))
        if label:
            bar.add_column(width=label_width, no_wrap=True)
        bar.add_column(width=max(10, _usable(columns) - 7 - (label_width + 1 if label else 0)))
        bar.add_column(justify="right", width=5)
        share = int(100 * status.share_done)  # 100 % only if nothing is left
        row = (_bar(status.share_done, is_complete=not status.num_rows - status.done_rows), Text(f"{share} %"))
        bar.add_row(*([Text(label)] if label else []), *row)
        return Group(bar, Text(", ".join(words)))

    def _ranks(self, status: Status, columns: int, ranks: list[RankStatus] | None) -> RenderableType:
        """Make a line for each rank; if there are too many, for the least, the median and the most advanced."""
        most = max(1, *(rank.rows for rank in status.ranks))

        def progress(rank: RankStatus) -> float:
            return rank.rows / (most if rank.share is None else max(1, rank.share))

        if ranks is None:
            order = sorted(status.ranks, key=progress)
            chosen = [("least", order[0]), ("median", order[len(order) // 2]), ("most", order[-1])]
            named = [(f"{name}: rank {rank.rank}", rank) for name, rank in chosen]
        else:
            named = [(f"rank {rank.rank}", rank) for rank in ranks]
        grid = Table.grid(padding=(0, 1))
        words = [_words(rank, status, columns) for _, rank in named]
        label_width, words_width = max(len(name) for name, _ in named), max(map(len, words))
        grid.add_column(width=label_width, no_wrap=True)
        grid.add_column(width=max(_SHORTEST_BAR, _usable(columns) - label_width - words_width - 2))
        grid.add_column(width=words_width, no_wrap=True)
        for (name, rank), text in zip(named, words, strict=True):
            style = _BEHIND if rank.rank in status.stragglers else ""
            bar = _bar(progress(rank), is_complete=rank.rows == rank.share, style=style or _GOING)
            grid.add_row(Text(name, style), bar, Text(text, style))
        return grid

    def _render(self, shown: RenderableType, columns: int) -> list[Line]:
        with self._console.capture() as captured:
            self._console.print(shown, width=_usable(columns))
        texts = captured.get().splitlines()
        return [(text, cell_len(_COLORS.sub("", text))) for text in texts]


def _usable(columns: int) -> int:
    return max(1, min(columns - 1, _MOST_COLUMNS))


def _label(status: Status) -> str:
    """Return the name of the output, its end if it is long, and the age of the job."""
    name = printable(status.output).replace("\n", " ").replace("\t", " ")
    name = name if cell_len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"
    age = rough_duration(max(0.0, status.time - status.started))
    return f"{name}, {age}" if name else age


def _words(rank: RankStatus, status: Status, columns: int) -> str:
    words = f"{rank.rows:,}" + (f" of {rank.share:,}" if rank.share is not None else "")
    if columns < _NARROW:
        return words
    if rank.rank in status.stragglers:
        return f"{words}, {why(rank, status)}"
    return f"{words}, {rate(rank.rows_per_second)}" if rank.rows else words


def _bar(share: float, is_complete: bool, style: str = _GOING) -> ProgressBar:
    return ProgressBar(total=1.0, completed=1.0 if is_complete else min(share, 0.999), complete_style=style)
