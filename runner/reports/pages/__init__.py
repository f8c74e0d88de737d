"""Pages to look at: one of each output, made of the records in its run folder, and one that compares several.

A page is one file that needs no network. Plotly draws in it; its Python package is not imported, so that a page costs a
job a few hundredths of a second.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from runner.core.errors import OutputError
from runner.reports.pages.page import page_of
from runner.reports.pages.record import Record

_COMPARISON = "comparison.html"


def make_page(output_or_folder: str | os.PathLike[str]) -> str:
    """The page of an output, or of its run folder: HTML, whatever has become of the job.

    Raises:
        InputError: there is no run folder.
        UsageError: Plotly is not installed.
    """
    return page_of(Record(os.fspath(output_or_folder))).to_html()


def write_page(folder: Path) -> None:
    """At the end of a job: write `report.html` into its run folder.

    Whatever goes wrong is passed over, a missing Plotly, too: the job has ended well.
    """
    with contextlib.suppress(Exception):
        page_of(Record(str(folder), is_hasty=True)).write(folder / "report.html")


def compare(paths: Sequence[str]) -> tuple[str, str]:
    """A table of text, and a page in HTML; see `runner.reports.pages.compare.compare`."""
    from runner.reports.pages.compare import compare

    text, page = compare(paths)
    return text, page.to_html()


def report(outputs: Sequence[str], html: str | None = None) -> str:
    """Write the page of one output, or one that compares several.

    Args:
        outputs: each an output, its run folder, or, to compare, a `report.json`.
        html: where to; by default `report.html` in the run folder of one output, and `comparison.html` in the current
            folder for several.

    Returns:
        A few lines for people: what they would see first, and where the page is.

    Raises:
        InputError: one of them is not a run.
        OutputError: the page cannot be written there.
        UsageError: Plotly is not installed.
    """
    from runner.reports.pages.compare import compare
    from runner.reports.pages.summary import summary

    if len(outputs) == 1:
        record = Record(outputs[0])
        text, page, default = summary(record), page_of(record), record.folder / "report.html"
    else:
        (text, page), default = compare(outputs), Path(_COMPARISON)
    path = default if html is None else Path(html)
    try:
        page.write(path)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path} cannot be written: {reason}. --html PATH puts it elsewhere") from error
    return f"{text}\nPage: {path.resolve()}"
