"""Several runs side by side: which options differ, which are faster, how speed grows with ranks, and what is slower."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner.core.errors import InputError
from runner.reports.pages.comparison_charts import draw_efficiencies, draw_speeds, draw_speedups, draw_wall_times
from runner.reports.pages.configurations import find_configurations, measure_scaling, named_configurations
from runner.reports.pages.losses import losses_of
from runner.reports.pages.page import Section, Values, draw_page
from runner.reports.pages.record import Record
from runner.reports.pages.values import Fields, Figure, count, duration, number, percent, rate, size, times

_SLOWER = 1.1
# The table: of each column its head, the key of a run's cell, and for figures their format.
_COLUMNS = (
    ("run", "name"), ("ranks", "ranks", count), ("rows", "rows", count), ("rows/s", "speed", rate),
    ("speed-up", "speedup", times), ("efficiency", "efficiency", percent), ("start-up", "startup", duration),
    ("wall", "wall", duration), ("memory", "memory", size), ("largest loss", "loss"), ("config", "config"),
    ("notes", "notes"),
)  # fmt: skip


def compare(paths: Sequence[str]) -> tuple[str, str]:
    """Return a table of text, and a page.

    Speed-up is rows per second against the run with the fewest ranks of the same configuration.

    Args:
        paths: each an output, its run folder, or a `report.json`.

    Raises:
        InputError: one of them is not a run.
    """
    runs = sorted(map(_read, paths), key=lambda run: _or_last(run["epoch"]))
    differing = find_configurations(runs)
    runs.sort(key=lambda run: (run["work"], _or_last(run["ranks"])))
    measure_scaling(runs)
    _mark_slower(runs)
    has_scaling = any(run["speedup"] > 0 for run in runs)
    left_out = {*(() if differing else ("config",)), *(() if has_scaling else ("speed-up", "efficiency"))}
    left_out |= {*(() if any(run["notes"] for run in runs) else ("notes",))}
    columns = [(head, key, *map(_or_dash, words)) for head, key, *words in _COLUMNS if head not in left_out]
    words, slower = _in_words(runs, differing), [index for index, run in enumerate(runs) if run["slower"]]
    table = {"runs": runs, "columns": columns, "words": words, "slower": slower}
    heads = [f"{run['name']} ({run['config']})" for run in runs]
    options = {
        "runs": heads,
        "options": [(f"--{name}", *(run["differing"][name] for run in runs)) for name in differing],
    }
    sections = [
        Section("compared", "Table", "The runs", lambda: table),
        Section("differences", "Options", "Options that differ", lambda: options if differing else {}),
        Section("rows-per-second", "Rows per second", "Rows per second", lambda: draw_speeds(runs)),
        Section("wall-time", "Wall time", "Wall time", lambda: draw_wall_times(runs)),
        Section("speed-up", "Speed-up", "Speed-up", lambda: draw_speedups(runs)),
        Section("efficiency", "Efficiency", "Efficiency", lambda: draw_efficiencies(runs)),
    ]
    page = draw_page(f"{len(runs)} runs compared", "Distributed batch inference: runs side by side", sections)
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
        "loop": report["loop_seconds"],
        "memory": max(map(number, held), default=None) if isinstance(held, list) else None,
        "loss": losses[0] if losses else "-",
        "about": [
            f"groups of {int(each)} ranks{in_stages}" if each > 1 else "",
            "" if report else "no report: it has not come to its end",
            "went on with an earlier job's rows" if number(report["resumed_rows"]) > 0 else "",
            "stopped early" if report["status"] == "stopped" else "",
        ],
    }


def _mark_slower(runs: list[Values]) -> None:
    """Mark runs that are slower than the earliest one of the same options and the same number of ranks."""
    earliest: dict[tuple[float, int], Values] = {}
    for run in sorted(runs, key=lambda run: _or_last(run["epoch"])):
        key = run["ranks"], run["work"]
        first = earliest.setdefault(key, run) if run["speed"] > 0 and run["ranks"] > 0 else run
        run["slower"] = ""
        if first["speed"] > _SLOWER * run["speed"]:
            fewer = percent(1 - run["speed"] / first["speed"])
            run["slower"] = f"SLOWER: {fewer} fewer rows/s than {first['name']}"
        run["notes"] = "; ".join(filter(None, [run["slower"], *run["about"]]))


def _in_words(runs: list[Values], differing: list[str]) -> list[str]:
    words = []
    bases = [run["base"] for run in runs if run["base"]["ranks"] > 0]
    if differing:
        so = ", so speed-up is computed per configuration" if bases else ""
        words.append(f"The runs differ in their options{so}: {named_configurations(runs)}.")
    if named := dict.fromkeys(f"{base['name']} ({count(base['ranks'])})" for base in bases):
        words.append(f"Speed-up is rows per second against the run with the fewest ranks: {', '.join(named)}.")
    timed = sorted((run for run in runs if run["speed"] > 0), key=lambda run: float(run["speed"]))
    if timed[1:] and timed[-1]["speed"] >= _SLOWER * timed[0]["speed"]:
        slowest, fastest = timed[0], timed[-1]
        words.append(
            f"Fastest while computing: {fastest['name']}, {rate(fastest['speed'])} rows/s, "
            f"{times(fastest['speed'] / slowest['speed'])} times {slowest['name']}."
        )
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


def _or_dash(words: Callable[[Any], Figure]) -> Callable[[Any], str]:
    """Turn a format into one that writes a dash for what is not known."""
    return lambda value: words(value) if number(value) == value else "-"


def _or_last(value: float) -> float:
    return value if value > 0 else math.inf
