"""Pages to look at: one of each output, made of the records in its run folder, and one that compares several."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from runner.core.errors import OutputError
from runner.reports.pages.job import USUAL_SECTIONS, page_of
from runner.reports.pages.page import compile_templates, write
from runner.reports.pages.record import Record


def make_page(output_or_folder: str | os.PathLike[str]) -> str:
    """Return the page of an output, or of its run folder: HTML, whatever has become of the job.

    Raises:
        InputError: there is no run folder.
    """
    return page_of(Record(os.fspath(output_or_folder)))


def prepare() -> None:
    """Import and compile in good time what the page of most jobs needs."""
    with contextlib.suppress(Exception):
        compile_templates(USUAL_SECTIONS)


def write_page(folder: Path) -> None:
    """Write `report.html` into the run folder of a job at its end.

    Whatever goes wrong is passed over: the job has ended well.
    """
    with contextlib.suppress(Exception):
        write(page_of(Record(str(folder), is_hasty=True)), folder / "report.html")


def compare(paths: Sequence[str]) -> tuple[str, str]:
    """Return a table of text, and a page in HTML; see `runner.reports.pages.comparison.compare`."""
    from runner.reports.pages import comparison

    return comparison.compare(paths)


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
    """
    from runner.reports.pages import comparison, summary

    if len(outputs) == 1:
        record = Record(outputs[0])
        text = summary.summary(record)
        page = page_of(record)
        default = record.folder / "report.html"
    else:
        (text, page), default = comparison.compare(outputs), Path("comparison.html")
    path = default if html is None else Path(html)
    try:
        write(page, path)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path} cannot be written: {reason}. --html PATH puts it elsewhere") from error
    return f"{text}\nPage: {path.resolve()}"
