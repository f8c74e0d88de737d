"""Live display below a cell of a notebook, updated in place. Knows nothing of the job but its status."""

import io
from typing import Any

from runner.telemetry.status import Status

_COLUMNS, _LINES = 100, 24
_SECONDS = 1.0
_HTML = "<pre style=\"line-height: normal; font-family: 'DejaVu Sans Mono', Menlo, monospace\">{code}</pre>"


class NotebookView:
    """View below the cell that has called the job; made by the thread that runs the cell.

    Args:
        title: first line of the display.
    """

    def __init__(self, title: str) -> None:
        self._title, self.seconds = title, _SECONDS
        self._handle: Any = None

    def show(self, status: Status) -> None:
        from runner.telemetry.display import Display  # rich takes its time to import

        self._draw(Display().picture(status, _COLUMNS, _LINES))

    def close(self, status: Status | None) -> None:
        from runner.telemetry.display import Display

        if status:
            self._draw(Display().last_picture(status, _COLUMNS))

    def _draw(self, picture: Any) -> None:
        from IPython.display import display
        from rich.console import Console

        console = Console(file=io.StringIO(), record=True, width=_COLUMNS, force_jupyter=False, highlight=False)
        console.print(self._title, markup=False)
        console.print(picture)
        html = console.export_html(inline_styles=True, code_format=_HTML, clear=False)
        forms = {"text/html": html, "text/plain": console.export_text()}
        if self._handle is None:
            self._handle = display(forms, raw=True, display_id=True)
        else:
            self._handle.update(forms, raw=True)
