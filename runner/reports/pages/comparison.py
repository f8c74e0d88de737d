"""Several runs side by side: how speed grows with ranks, which jobs are unlike, and which have become slower."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from runner.config.option import ANSWER, NOTHING
from runner.config.options import Config
from runner.core.errors import InputError
from runner.reports.pages.figures import axis, chart, lines, marks, plain
from runner.reports.pages.losses import losses_of
from runner.reports.pages.page import Section, Values, draw_page
from runner.reports.pages.record import Record
from runner.reports.pages.values import Fields, Figure, count, duration, number, percent, rate, size, times

_SLOWER = 1.1
# What makes two jobs the same work, and what has nothing to do with how fast it is done.
_AFFECTS = {field.name.replace("_", "-"): field.metadata["affects"] for field in dataclasses.fields(Config)}
# options of former versions, too
_WORK = ("quantize", *(name for name, affects in _AFFECTS.items() if affects == ANSWER))
_REMOVED = ("canary", "metrics-file", "metrics-port")
_NO_MATTER = (*_REMOVED, *(name for name, affects in _AFFECTS.items() if affects == NOTHING))
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_SIGNS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
_IDEAL_COLOR, _SLOWER_COLOR = "#8d949c", "#d62728"
# The table: of each column its head, the key of a run's cell, and for figures their format.
_COLUMNS = (
    ("run", "name"), ("ranks", "ranks", count), ("rows", "rows", count), ("rows/s", "speed", rate),
    ("speed-up", "speedup", times), ("efficiency", "efficiency", percent), ("start-up", "startup", duration),
    ("wall", "wall", duration), ("memory", "memory", size), ("largest loss", "loss"), ("job", "job"),
    ("notes", "notes"),
)  # fmt: skip


def compare(paths: Sequence[str]) -> tuple[str, str]:
    """Return a table of text, and a page.

    Speed-up is rows per second against the run with the fewest ranks that did the same work.

    Args:
        paths: each an output, its run folder, or a `report.json`.

    Raises:
        InputError: one of them is not a run.
    """
    runs = sorted(map(_read, paths), key=lambda run: _or_last(run["epoch"]))
    unlike = _tell_apart(runs)
    _mark_slower(runs)
    runs.sort(key=lambda run: (run["work"], _or_last(run["ranks"])))
    columns = [(head, key, *map(_or_dash, words)) for head, key, *words in _COLUMNS if head != "job" or len(unlike) > 1]
    words, slower = _in_words(runs, unlike), [index for index, run in enumerate(runs) if run["slower"]]
    drawn = [run for run in runs if run["ranks"] > 0 and run["speedup"] > 0]
    table = {"runs": runs, "columns": columns, "words": words, "slower": slower}
    sections = [Section("compared", "Table", "The runs", lambda: table)]
    if drawn:
        y = _log_axis("speed-up", [2.0**power for power in range(-10, 18)])
        draw = partial(_draw, drawn, "scaling", "speedup", "speed-up %{y:.3g}", y)
        sections.append(Section("speed-up", "Speed-up", "Speed-up", draw))
        y = axis("of ideal", tickformat=".0%", range=[0, 1.08 * max([1.0, *(run["efficiency"] for run in drawn)])])
        draw = partial(_draw, drawn, "efficiencies", "efficiency", "%{y:.0%} of ideal", y)
        sections.append(Section("efficiency", "Efficiency", "Efficiency", draw))
    page = draw_page(f"{len(runs)} runs compared", "Distributed batch inference: how it scales", sections)
    return "\n".join([_as_text(runs, columns), *words]), page


def _read(path: str) -> Values:
    if not path.endswith(".json") or not Path(path).is_file():
        record = Record(path)
        return _run(record.output, record.report, record.config)
    try:
        report = json.loads(Path(path).read_bytes(), object_hook=Fields)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, Fields) or "rows_per_second" not in report:
        raise InputError(f"{path} is not the report.json of a run: it has no rows_per_second")
    return _run(path, report, report.fields("config"))


def _run(name: str, report: Fields, options: Fields) -> Values:
    held = report["peak_rss_bytes"]
    each, stages = number(options["model-parallel"]), number(options["pipeline-stages"])
    in_stages = f" in {count(stages)} stages" if stages > 1 else ""
    losses = [f"{loss}, {percent(share)}" for loss, share in losses_of(report).items()]
    return {
        "name": name,
        "options": options,
        "epoch": number(report["epoch"]),
        "ranks": number(report["world_size"]),
        "rows": report["computed_rows"],
        "speed": number(report["rows_per_second"]),
        "startup": report["startup_seconds"],
        "wall": report["wall_seconds"],
        "memory": max(map(number, held), default=None) if isinstance(held, list) else None,
        "loss": losses[0] if losses else "-",
        "about": [
            f"groups of {int(each)} ranks{in_stages}" if each > 1 else "",
            "" if report else "no report: it has not come to its end",
            "went on with an earlier job's rows" if number(report["resumed_rows"]) > 0 else "",
            "stopped early" if report["status"] == "stopped" else "",
        ],
    }


def _tell_apart(runs: list[Values]) -> list[str]:
    """Number the unlike jobs, and measure each run by its base; return how each job differs from the first."""
    works: list[dict[str, Any]] = []
    for run in runs:
        work = {name: run["options"].get(name) for name in _WORK}
        works += [work] if work not in works else []
        index = works.index(work)
        run |= {"work": index, "job": chr(ord("A") + index) if index < 26 else str(index + 1)}
    for run in runs:
        alike = [other for other in runs if other["work"] == run["work"] and other["ranks"] > 0 and other["speed"] > 0]
        base = min(alike, key=lambda other: other["ranks"], default={"ranks": math.nan, "speed": math.nan})
        speedup = run["speed"] / base["speed"]
        efficiency = speedup * base["ranks"] / (run["ranks"] or math.nan)
        run |= {"base": base, "speedup": speedup, "efficiency": efficiency}
    return [
        ", ".join(f"--{name} {_in_text(work[name])}, not {_in_text(works[0][name])}" for name in _WORK
                  if work[name] != works[0][name])
        for work in works
    ]  # fmt: skip


def _mark_slower(runs: list[Values]) -> None:
    """Mark runs that are slower than the earliest one of the same options and the same number of ranks."""
    earliest: dict[str, Values] = {}
    for run in runs:
        same = {name: value for name, value in run["options"].items() if name not in _NO_MATTER}
        key = f"{run['ranks']} {json.dumps(same, sort_keys=True, default=str)}"
        first = earliest.setdefault(key, run) if run["speed"] > 0 and run["ranks"] > 0 else run
        run["slower"] = ""
        if first["speed"] > _SLOWER * run["speed"]:
            fewer = percent(1 - run["speed"] / first["speed"])
            run["slower"] = f"SLOWER: {fewer} fewer rows/s than {first['name']}"
        run["notes"] = "; ".join(filter(None, [run["slower"], *run["about"]]))


def _in_words(runs: list[Values], unlike: list[str]) -> list[str]:
    words = []
    if len(unlike) > 1:
        letters = {run["work"]: run["job"] for run in runs}
        how = " ".join(f"Job {letters[work]} has {what}." for work, what in enumerate(unlike) if work)
        words.append(f"These are {len(unlike)} unlike jobs, each compared with its own kind alone. {how}")
    bases = [run["base"] for run in runs if run["base"]["ranks"] > 0]
    if named := dict.fromkeys(f"{base['name']} ({count(base['ranks'])})" for base in bases):
        words.append(f"Speed-up is rows per second against the run with the fewest ranks: {', '.join(named)}.")
    if slower := [run["name"] for run in runs if run["slower"]]:
        words.append(f"More than 10 % slower than an earlier run of the same options and ranks: {', '.join(slower)}.")
    return words


def _as_text(runs: list[Values], columns: list[Any]) -> str:
    header = [column[0] for column in columns]
    rows = [[column[2](run[column[1]]) if column[2:] else run[column[1]] for column in columns] for run in runs]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    aligns = [">" if column[2:] else "<" for column in columns]
    return "\n".join(
        "  ".join(f"{word!s:{align}{width}}" for word, align, width in zip(line, aligns, widths, strict=True)).rstrip()
        for line in (header, *rows)
    )


def _draw(runs: list[Values], name: str, key: str, words: str, y_axis: dict[str, Any]) -> Values:
    """Draw figures against ranks: a line for each job, and a ring around what is slower than an earlier run."""
    data = []
    works = sorted({run["work"] for run in runs})
    for work in works:
        own = [run for run in runs if run["work"] == work]
        ranks, color = [run["ranks"] for run in own], _COLORS[work % len(_COLORS)]
        if key == "speedup":
            ideal = [each / own[0]["base"]["ranks"] for each in ranks]
            data.append(lines(ideal, x=ranks, name="ideal", line={"color": _IDEAL_COLOR, "dash": "dash", "width": 1.5}))
        trace = marks(_SIGNS[work % len(_SIGNS)], 10, color, x=ranks, hover=f"%{{customdata}}<br>%{{x}} ranks: {words}")
        trace |= {"mode": "lines+markers", "y": [run[key] for run in own], "line": {"color": color}}
        trace |= {"name": f"job {own[0]['job']}" if works[1:] else "measured"}
        data.append(trace | {"customdata": [plain(run["name"]) for run in own]})
    if slower := [run for run in runs if run["slower"]]:
        x, y = [run["ranks"] for run in slower], [run[key] for run in slower]
        data.append(marks("circle-open", 20, _SLOWER_COLOR, y, x=x, name="slower than an earlier run like it"))
    x_axis = _log_axis("ranks", sorted({run["ranks"] for run in runs}))
    return {"runs": runs, "chart": chart(name, 400, data, xaxis=x_axis, yaxis=y_axis)}


def _log_axis(title: str, ticks: list[float]) -> dict[str, Any]:
    return axis(title, type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def _or_dash(words: Callable[[Any], Figure]) -> Callable[[Any], str]:
    """Turn a format into one that writes a dash for what is not known."""
    return lambda value: words(value) if number(value) == value else "-"


def _in_text(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, default=str)


def _or_last(value: float) -> float:
    return value if value > 0 else math.inf
