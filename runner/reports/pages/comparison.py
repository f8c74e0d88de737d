"""Several runs side by side: how speed grows with ranks, which jobs are unlike, and which have become slower."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.option import ANSWER, NOTHING
from runner.config.options import Config
from runner.core.errors import InputError
from runner.reports.pages.blocks import Chart, Row, Table, axis, finding, plain, scatter
from runner.reports.pages.document import make_page, make_section
from runner.reports.pages.losses import losses_of
from runner.reports.pages.record import Record
from runner.reports.pages.values import UNKNOWN, Fields, Figure, count, duration, number, percent, rate, size, times

_SLOWER = 1.1
# What makes two jobs the same work, and what has nothing to do with how fast it is done.
_AFFECTS = {field.name.replace("_", "-"): field.metadata["affects"] for field in dataclasses.fields(Config)}
# options of former versions, too
_WORK = ("quantize", *(name for name, affects in _AFFECTS.items() if affects == ANSWER))
_REMOVED = ("canary", "metrics-file", "metrics-port")
_NO_MATTER = (*_REMOVED, *(name for name, affects in _AFFECTS.items() if affects == NOTHING))
_HEADER = ("run", "ranks", "rows", "rows/s", "speed-up", "efficiency", "start-up", "wall", "memory", "largest loss")
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_SIGNS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
_IDEAL_COLOR, _SLOWER_COLOR = "#8d949c", "#d62728"


@dataclass
class _Run:
    """One run of the comparison.

    Attributes:
        work: which of the unlike jobs it is, from 0 on.
        base: the name and the ranks of the run with the fewest ranks that did the same work; none where none has speed.
        slower: than which earlier run, and by how much; empty for none.
    """

    name: str
    report: Fields
    options: Fields
    work: int = 0
    base: tuple[str, float] = ("", math.nan)
    speedup: float = math.nan
    efficiency: float = math.nan
    slower: str = ""

    def __post_init__(self) -> None:
        self.ranks, self.speed = self.report.number("world_size"), self.report.number("rows_per_second")


def compare(paths: Sequence[str]) -> tuple[str, str]:
    """Return a table of text, and a page that lacks Plotly.

    Speed-up is rows per second against the run with the fewest ranks that did the same work.

    Args:
        paths: each an output, its run folder, or a `report.json`.

    Raises:
        InputError: one of them is not a run.
    """
    runs = sorted(map(_read, paths), key=lambda run: _or_last(run.report.number("epoch")))
    unlike = _tell_apart(runs)
    _mark_slower(runs)
    runs.sort(key=lambda run: (run.work, _or_last(run.ranks)))
    jobs = [f"job {_letter(index)}" for index in range(len(unlike))] if len(unlike) > 1 else ["measured"]
    header, rows = (*_HEADER, *(["job"] if len(unlike) > 1 else []), "notes"), [_row(run, jobs) for run in runs]
    words = _in_words(runs, unlike)
    table = Table("one line a run", header, rows, [index for index, run in enumerate(runs) if run.slower])
    sections = [make_section("table", "Table", "The runs", lambda: [*map(finding, words), table])]
    if drawn := [run for run in runs if run.ranks > 0 and run.speedup > 0]:
        sections.append(make_section("speed-up", "Speed-up", "Speed-up", lambda: [_draw_speedup(drawn, jobs)]))
        sections.append(make_section("efficiency", "Efficiency", "Efficiency", lambda: [_draw_efficiency(drawn, jobs)]))
    page = make_page(f"{len(runs)} runs compared", "Distributed batch inference: how it scales", sections)
    return "\n".join([_as_text(header, rows), *words]), page


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
    return _Run(path, Fields(report), Fields(report).fields("config"))


def _tell_apart(runs: list[_Run]) -> list[str]:
    """Number the unlike jobs, and measure each run by its base; return how each job differs from the first."""
    works: list[dict[str, Any]] = []
    for run in runs:
        work = {name: run.options.get(name) for name in _WORK}
        works += [work] if work not in works else []
        run.work = works.index(work)
    for run in runs:
        alike = [other for other in runs if other.work == run.work and other.ranks > 0 and other.speed > 0]
        if base := min(alike, key=lambda other: other.ranks, default=None):
            run.base, run.speedup = (base.name, base.ranks), run.speed / base.speed
            run.efficiency = run.speedup * base.ranks / run.ranks if run.ranks else math.nan
    first = works[0]
    return [
        ", ".join(f"--{name} {_in_text(work[name])}, not {_in_text(first[name])}" for name in _WORK
                  if work[name] != first[name])
        for work in works
    ]  # fmt: skip


def _mark_slower(runs: list[_Run]) -> None:
    """Mark runs that are slower than the earliest one of the same options and the same number of ranks."""
    earliest: dict[str, _Run] = {}
    for run in runs:
        if run.speed > 0 and run.ranks > 0:
            same = {name: value for name, value in run.options.items() if name not in _NO_MATTER}
            first = earliest.setdefault(f"{run.ranks} {json.dumps(same, sort_keys=True, default=str)}", run)
            if first.speed > _SLOWER * run.speed:
                run.slower = f"SLOWER: {percent(1 - run.speed / first.speed)} fewer rows/s than {first.name}"


def _row(run: _Run, jobs: list[str]) -> Row:
    report, held = run.report, run.report.get("peak_rss_bytes")
    memory = max(map(number, held), default=math.nan) if isinstance(held, list) else math.nan
    figures = [
        count(run.ranks), count(report.get("computed_rows")), rate(run.speed), times(run.speedup),
        percent(run.efficiency), duration(report.get("startup_seconds")), duration(report.get("wall_seconds")),
        size(memory),
    ]  # fmt: skip
    each, stages = run.options.number("model-parallel"), run.options.number("pipeline-stages")
    in_stages = f" in {count(stages)} stages" if stages > 1 else ""
    notes = [
        run.slower,
        f"groups of {int(each)} ranks{in_stages}" if each > 1 else "",
        "" if report else "no report: it has not come to its end",
        "went on with an earlier job's rows" if report.number("resumed_rows") > 0 else "",
        "stopped early" if report.get("status") == "stopped" else "",
    ]
    losses = [f"{loss}, {percent(share)}" for loss, share in losses_of(report).items()] or ["-"]
    known = [Figure("-", math.nan) if figure == UNKNOWN else figure for figure in figures]
    job = [_letter(run.work)] if len(jobs) > 1 else []
    return [run.name, *known, losses[0], *job, "; ".join(filter(None, notes))]


def _in_words(runs: list[_Run], unlike: list[str]) -> list[str]:
    words = []
    if len(unlike) > 1:
        how = " ".join(f"Job {_letter(index)} has {what}." for index, what in enumerate(unlike) if index)
        words.append(f"These are {len(unlike)} unlike jobs, each compared with its own kind alone. {how}")
    if bases := dict.fromkeys(f"{name} ({count(ranks)})" for name, ranks in (run.base for run in runs) if name):
        words.append(f"Speed-up is rows per second against the run with the fewest ranks: {', '.join(bases)}.")
    if slower := [run.name for run in runs if run.slower]:
        words.append(f"More than 10 % slower than an earlier run of the same options and ranks: {', '.join(slower)}.")
    return words


def _as_text(header: Sequence[str], rows: list[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    aligns = [">" if isinstance(item, Figure) else "<" for item in rows[0]]
    return "\n".join(
        "  ".join(f"{word!s:{align}{width}}" for word, align, width in zip(line, aligns, widths, strict=True)).rstrip()
        for line in (header, *rows)
    )


def _draw_speedup(runs: list[_Run], jobs: list[str]) -> Chart:
    """Draw speed-up against ranks, both logarithmic, beside a line for each job of what would be ideal."""
    data, dashes = [], {"color": _IDEAL_COLOR, "dash": "dash", "width": 1.5}
    for _, own in _by_work(runs):
        ranks = sorted({run.ranks for run in own})
        ideal = [each / own[0].base[1] for each in ranks]
        data.append(scatter("lines", ranks, ideal, name="ideal", line=dashes, hoverinfo="skip"))
    speedups = [run.speedup for run in runs]
    most, least = max([run.ranks / run.base[1] for run in runs] + speedups), min([1.0, *speedups])
    ticks = [2.0**power for power in range(math.floor(math.log2(least)), max(1, math.ceil(math.log2(most))) + 1)]
    each = ", ".join(f"{count(run.ranks)} ranks {times(run.speedup)}" for run in runs)
    says = f"Speed-up against ranks beside a line of ideal speed-up: {each}."
    data += _points(runs, lambda run: run.speedup, jobs, "speed-up %{y:.3g}")
    layout = {"xaxis": _rank_axis(runs), "yaxis": _log_axis("speed-up", ticks)}
    return Chart("scaling", says, data, layout, 420, legend=[("ideal", _IDEAL_COLOR), *_legend(runs, jobs)])


def _draw_efficiency(runs: list[_Run], jobs: list[str]) -> Chart:
    """Draw efficiency against ranks."""
    each = ", ".join(f"{count(run.ranks)} ranks {percent(run.efficiency)}" for run in runs)
    y = axis("per cent of ideal", range=[0, 108 * max([1.0, *(run.efficiency for run in runs)])])
    data = _points(runs, lambda run: 100 * run.efficiency, jobs, "%{y:.0f} % of ideal")
    layout = {"xaxis": _rank_axis(runs), "yaxis": y}
    return Chart("efficiencies", f"Efficiency against ranks: {each}.", data, layout, 320, legend=_legend(runs, jobs))


def _by_work(runs: list[_Run]) -> list[tuple[int, list[_Run]]]:
    return [(work, [run for run in runs if run.work == work]) for work in sorted({run.work for run in runs})]


def _points(runs: list[_Run], value: Callable[[_Run], float], jobs: list[str], words: str) -> list[dict[str, Any]]:
    """Draw a line and a mark for each run, and a ring around those that are slower than an earlier run."""
    data, hover = [], f"%{{customdata}}<br>%{{x}} ranks: {words}<extra></extra>"
    for work, own in _by_work(runs):
        color, x, y = _COLORS[work % len(_COLORS)], [run.ranks for run in own], list(map(value, own))
        line = sorted(dict(zip(reversed(x), reversed(y), strict=True)).items())  # through the first of as many ranks
        ends = [list(numbers) for numbers in zip(*line, strict=True)]
        marker = {"symbol": _SIGNS[work % len(_SIGNS)], "size": 10, "color": color}
        named = {"name": jobs[work], "customdata": [plain(run.name) for run in own], "cliponaxis": False}
        data.append(scatter("lines", *ends, line={"color": color, "width": 2}, hoverinfo="skip"))
        data.append(scatter("markers", x, y, marker=marker, hovertemplate=hover, **named))
    if slower := [run for run in runs if run.slower]:
        ring = {"symbol": "circle-open", "size": 20, "color": _SLOWER_COLOR, "line": {"width": 3}}
        x = [run.ranks for run in slower]
        data.append(scatter("markers", x, list(map(value, slower)), marker=ring, hoverinfo="skip", cliponaxis=False))
    return data


def _legend(runs: list[_Run], jobs: list[str]) -> list[tuple[str, str]]:
    slower = [("slower than an earlier run like it", _SLOWER_COLOR)] if any(run.slower for run in runs) else []
    return [*((jobs[work], _COLORS[work % len(_COLORS)]) for work, _ in _by_work(runs)), *slower]


def _log_axis(title: str, ticks: list[float]) -> dict[str, Any]:
    return axis(title, type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def _rank_axis(runs: list[_Run]) -> dict[str, Any]:
    return _log_axis("ranks", sorted({run.ranks for run in runs}))


def _letter(index: int) -> str:
    """Name an unlike job: A, B, ..."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def _in_text(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, default=str)


def _or_last(value: float) -> float:
    return value if value > 0 else math.inf
