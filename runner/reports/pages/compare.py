"""Several runs side by side: how speed grows with ranks, which jobs are unlike, and which have become slower."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core.errors import InputError
from runner.reports.pages.document import Document, Section, make_document
from runner.reports.pages.losses import losses_of
from runner.reports.pages.markup import Cell, Row, Table, cell, paragraph
from runner.reports.pages.record import Record
from runner.reports.pages.scaling import Point, draw_efficiency, draw_speedup
from runner.reports.pages.values import UNKNOWN, count, duration, number, percent, rate, size, times

_SLOWER = 1.1
# What makes two jobs the same work, and what has nothing to do with how fast it is done.
_WORK: tuple[str, ...] = ("model", "model-args", "weights", "data", "columns", "keep", "skip", "limit", "batch-size")
_WORK += (
    "weights-key",
    "strip-prefix",
    "ignore-keys",
    "preprocess",
    "postprocess",
    "dtype",
    "quantize",
    "channels-last",
    "compile",
    "stack",
    "input",
)
_NO_MATTER: tuple[str, ...] = (
    "output",
    "overwrite",
    "fresh",
    "trace",
    "verbose",
    "metrics-port",
    "metrics-file",
    "time-limit",
)
_NO_MATTER += ("baseline", "canary", "stall-timeout")
_HEADER = ("run", "ranks", "rows", "rows/s", "speed-up", "efficiency", "start-up", "wall", "memory", "largest loss")


@dataclass
class _Run:
    """One run of the comparison.

    Attributes:
        work: which of the unlike jobs it is, from 0 on.
        base: the run with the fewest ranks that did the same work.
        slower: than which earlier run, and by how much; empty for none.
    """

    name: str
    report: dict[str, Any]
    options: dict[str, Any]
    work: int = 0
    base: "_Run | None" = None
    slower: str = ""

    def figure(self, key: str) -> float:
        return number(self.report.get(key))

    @property
    def ranks(self) -> float:
        return self.figure("world_size")

    @property
    def speed(self) -> float:
        return self.figure("rows_per_second")

    @property
    def speedup(self) -> float:
        return self.speed / self.base.speed if self.base else math.nan

    @property
    def efficiency(self) -> float:
        return self.speedup * self.base.ranks / self.ranks if self.base and self.ranks else math.nan

    @property
    def memory(self) -> float:
        held = self.report.get("peak_rss_bytes")
        return max(map(number, held), default=math.nan) if isinstance(held, list) else math.nan

    @property
    def group_size(self) -> int:
        """Ranks that hold one replica of the model together."""
        found = number(self.options.get("model-parallel"))
        return int(found) if found > 1 else 1

    @property
    def does(self) -> dict[str, Any]:
        return {name: self.options.get(name) for name in _WORK}


def compare(paths: Sequence[str]) -> tuple[str, Document]:
    """A table of text, and a page.

    Speed-up is rows per second against the run with the fewest ranks that did the same work.

    Args:
        paths: each an output, its run folder, or a `report.json`.

    Raises:
        InputError: one of them is not a run.
    """
    runs = sorted((_read(path) for path in paths), key=lambda run: _or_last(run.figure("epoch")))
    unlike = _tell_apart(runs)
    _mark_slower(runs)
    runs.sort(key=lambda run: (run.work, _or_last(run.ranks)))
    header = (*_HEADER, "job", "notes") if len(unlike) > 1 else (*_HEADER, "notes")
    rows = [_row(run, len(unlike) > 1) for run in runs]
    words = _in_words(runs, unlike)
    marked = [index for index, run in enumerate(runs) if run.slower]
    jobs = [f"job {letter(index)}" for index in range(len(unlike))] if len(unlike) > 1 else ["measured"]
    points = [
        Point(run.name, run.work, run.ranks, run.speedup, run.efficiency, run.base.ranks, bool(run.slower))
        for run in runs
        if run.base and run.ranks > 0 and run.speedup > 0
    ]
    table = Table("one line a run", header, rows, marked)
    said = "".join(paragraph(word, "finding") for word in words)
    sections = [Section("table", "Table", "The runs", said + table.to_html())]
    if points:
        sections.append(Section("speed-up", "Speed-up", "Speed-up", draw_speedup(points, jobs).to_html()))
        sections.append(Section("efficiency", "Efficiency", "Efficiency", draw_efficiency(points, jobs).to_html()))
    page = make_document(f"{len(runs)} runs compared", "Distributed batch inference: how it scales", sections)
    return "\n".join([_as_text(header, rows), *words]), page


def letter(index: int) -> str:
    """How unlike jobs are called: A, B, ..."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def _read(path: str) -> _Run:
    if not path.endswith(".json") or not Path(path).is_file():
        record = Record(path)
        return _Run(record.output, record.report, record.config)
    try:
        report = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict) or "rows_per_second" not in report:
        raise InputError(f"{path} is not the report.json of a run: it has no rows_per_second")
    options = report.get("config")
    return _Run(path, report, options if isinstance(options, dict) else {})


def _tell_apart(runs: list[_Run]) -> list[str]:
    """Number the unlike jobs, and find the base of each; returns how each differs from the first, in words."""
    works: list[dict[str, Any]] = []
    for run in runs:
        if run.does not in works:
            works.append(run.does)
        run.work = works.index(run.does)
    for run in runs:
        alike = [other for other in runs if other.work == run.work and other.ranks > 0 and other.speed > 0]
        run.base = min(alike, key=lambda other: other.ranks, default=None)
    first = works[0]
    return [", ".join(_differs(name, work, first) for name in _WORK if work[name] != first[name]) for work in works]


def _mark_slower(runs: list[_Run]) -> None:
    """Mark runs that are slower than the earliest one of the same options and the same number of ranks."""
    earliest: dict[str, _Run] = {}
    for run in runs:
        if run.speed > 0 and run.ranks > 0:
            same = {name: value for name, value in run.options.items() if name not in _NO_MATTER}
            first = earliest.setdefault(f"{run.ranks} {json.dumps(same, sort_keys=True, default=str)}", run)
            if first.speed > _SLOWER * run.speed:
                run.slower = f"SLOWER: {percent(1 - run.speed / first.speed)} fewer rows/s than {first.name}"


def _row(run: _Run, are_unlike: bool) -> Row:
    loss, share = next(iter(losses_of(run.report).items()), ("", math.nan))
    notes = [run.slower] if run.slower else []
    if run.group_size > 1:
        stages = number(run.options.get("pipeline-stages"))
        notes.append(f"groups of {run.group_size} ranks" + (f" in {count(stages)} stages" if stages > 1 else ""))
    if not run.report:
        notes.append("no report: it has not come to its end")
    if run.figure("resumed_rows") > 0:
        notes.append("went on with an earlier job's rows")
    if run.report.get("status") == "stopped":
        notes.append("stopped early")
    figures = [
        cell(run.ranks, count),
        cell(run.figure("computed_rows"), count),
        cell(run.speed, rate),
        cell(run.speedup, times),
        cell(run.efficiency, percent),
        cell(run.figure("startup_seconds"), duration),
        cell(run.figure("wall_seconds"), duration),
        cell(run.memory, size),
    ]
    known = [found if found.words != UNKNOWN else Cell("-", math.nan) for found in figures]
    job = [letter(run.work)] if are_unlike else []
    return [run.name, *known, f"{loss}, {percent(share)}" if loss else "-", *job, "; ".join(notes)]


def _in_words(runs: list[_Run], unlike: list[str]) -> list[str]:
    words = []
    if len(unlike) > 1:
        how = " ".join(f"Job {letter(index)} has {what}." for index, what in enumerate(unlike) if index)
        words.append(f"These are {len(unlike)} unlike jobs, each compared with its own kind alone. {how}")
    bases = dict.fromkeys(f"{run.base.name} ({count(run.base.ranks)})" for run in runs if run.base)
    if bases:
        words.append(f"Speed-up is rows per second against the run with the fewest ranks: {', '.join(bases)}.")
    if slower := [run.name for run in runs if run.slower]:
        words.append(f"More than 10 % slower than an earlier run of the same options and ranks: {', '.join(slower)}.")
    return words


def _as_text(header: Sequence[str], rows: list[Row]) -> str:
    lines = [header, *([item.words if isinstance(item, Cell) else item for item in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    is_figure = [isinstance(item, Cell) for item in rows[0]]
    return "\n".join(
        "  ".join(
            word.rjust(width) if right else word.ljust(width)
            for word, width, right in zip(line, widths, is_figure, strict=True)
        ).rstrip()
        for line in lines
    )


def _differs(name: str, work: dict[str, Any], first: dict[str, Any]) -> str:
    return f"--{name} {_said(work[name])}, not {_said(first[name])}"


def _said(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, default=str)


def _or_last(value: float) -> float:
    return value if value > 0 else math.inf
