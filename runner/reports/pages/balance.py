"""Rank beside rank: how long each worked, what memory it held, and how fast weights and predictions travelled."""

import math
from collections import defaultdict
from statistics import fmean
from typing import Any

from runner.reports.pages.markup import Chart, Row, Table, axis, cell, paragraph, plain
from runner.reports.pages.phases import shown
from runner.reports.pages.record import Record
from runner.reports.pages.values import count, duration, number, percent, plural, rate, size
from runner.telemetry.timeline import PHASES

_LOOP = ("forward", "wait_rows", "wait_room", "wait_ranks")
_MOST_NAMES, _EVEN = 16, 0.05
_RSS, _GPU = "#56b4e9", "#e69f00"


def seconds_of(rank: dict[str, Any], phase: str) -> float:
    """How long a rank was in a phase; NaN where that is not known."""
    seconds = rank.get("seconds")
    return number(seconds.get(phase)) if isinstance(seconds, dict) else math.nan


def load_balance(record: Record) -> str:
    """The section; empty where the report does not tell of ranks."""
    ranks, each = [rank for rank in record.leaders if not math.isnan(seconds_of(rank, "forward"))], record.group_size
    if not ranks:
        return ""
    busy = [seconds_of(rank, "forward") for rank in ranks]
    shown_ranks, names = _sorted(ranks, busy)
    data = [
        {
            "type": "bar",
            "name": shown(phase).name,
            "x": names,
            "y": [seconds_of(rank, phase) for rank in shown_ranks],
            "marker": {"color": shown(phase).colour, "line": {"width": 0}},
            "customdata": [plain(_name(rank, each)) for rank in shown_ranks],
            "hovertemplate": f"%{{customdata}}<br>{shown(phase).name}: %{{y:.3g}} s<extra></extra>",
        }
        for phase in _LOOP
    ]
    words = _balance_in_words(ranks, busy, each)
    layout = {
        "barmode": "stack",
        "xaxis": _rank_axis(ranks, each),
        "yaxis": axis("seconds", rangemode="tozero"),
        "bargap": _gap(ranks),
    }
    legend = [(shown(phase).name, shown(phase).colour) for phase in _LOOP]
    chart = Chart("balance", words, data, layout, 300, [_seconds_table(ranks, each)], legend)
    return paragraph(words, "finding") + chart.to_html()


def memory(record: Record) -> str:
    """The section; empty where the report does not tell of ranks."""
    ranks = [rank for rank in record.ranks if number(rank.get("peak_rss_bytes")) > 0]
    if not ranks:
        return ""
    held = [number(rank.get("peak_rss_bytes")) for rank in ranks]
    on_gpu = [number(rank.get("peak_gpu_bytes")) for rank in ranks]
    shown_ranks, names = _sorted(ranks, held)
    kinds = [("process", _RSS, "peak_rss_bytes")] + (
        [("GPU", _GPU, "peak_gpu_bytes")] if any(x > 0 for x in on_gpu) else []
    )
    data = [
        {
            "type": "bar",
            "name": name,
            "x": names,
            "y": [number(rank.get(key)) / 1024**3 for rank in shown_ranks],
            "marker": {"color": colour, "line": {"width": 0}},
            "customdata": [f"{plain(_name(rank))}<br>{name}: {size(rank.get(key))}" for rank in shown_ranks],
            "hovertemplate": "%{customdata}<extra></extra>",
        }
        for name, colour, key in kinds
    ]
    by_host: dict[str, float] = defaultdict(float)
    for rank, found in zip(ranks, held, strict=True):
        by_host[str(rank.get("host"))] += found
    host = max(by_host, key=lambda name: by_host[name])
    words = (
        f"A rank's process held up to {size(max(held))} ({_name(ranks[held.index(max(held))])}), the mean is "
        f"{size(fmean(held))}. The ranks of {host} held {size(by_host[host])} together, if all came to their most at "
        "once."
    )
    rows: list[Row] = [
        [_name(rank), cell(rss, size), cell(gpu, size)] for rank, rss, gpu in zip(ranks, held, on_gpu, strict=True)
    ]
    table = Table("most memory of each rank", ("rank", "process", "GPU, by PyTorch"), rows)
    layout = {
        "barmode": "group",
        "xaxis": _rank_axis(ranks),
        "yaxis": axis("GiB", rangemode="tozero"),
        "bargap": _gap(ranks),
    }
    legend = [(name, colour) for name, colour, _ in kinds] if len(kinds) > 1 else []
    return paragraph(words, "finding") + Chart("memory", words, data, layout, 260, [table], legend).to_html()


def rates(record: Record) -> str:
    """The section; empty where the report is missing."""
    report = record.report
    root = record.ranks[0] if record.ranks else {}
    written = sum(number(rank.get("output_bytes")) for rank in record.ranks)
    kinds = [
        (
            "weights, sent to all ranks",
            report.get("broadcast_bytes"),
            report.get("broadcast_seconds"),
            "broadcast on rank 0",
        ),
        ("predictions, received by rank 0", report.get("collect_bytes"), report.get("loop_seconds"), "the whole loop"),
        (
            "the same, while rounds went on",
            report.get("collect_bytes"),
            seconds_of(root, "collect"),
            "collect on rank 0",
        ),
        ("predictions, written", written, sum(seconds_of(rank, "write") for rank in record.ranks), "write, all ranks"),
    ]
    if record.group_size > 1:
        del kinds[0]  # each rank gets its part alone, which is not counted
    rows: list[Row] = []
    for what, moved, took, of in kinds:
        amount, seconds = number(moved), number(took)
        if amount > 0:
            speed = cell(amount / seconds if seconds > 0 else math.nan, lambda found: f"{size(found)}/s")
            rows.append([what, cell(amount, size), cell(seconds, duration), speed, of])
    if not rows:
        return ""
    return Table("what travelled, and how fast", ("what", "amount", "time", "rate", "time of"), rows).to_html()


def _balance_in_words(ranks: list[dict[str, Any]], busy: list[float], each: int) -> str:
    mean, most = fmean(busy), max(busy)
    rows, noun = [number(rank.get("rows")) for rank in ranks], "rank" if each == 1 else "group"
    if len(ranks) == 1:
        return f"One {noun} computed for {duration(mean)}, {count(rows[0])} rows."
    least, greatest = count(min(rows)), count(max(rows))
    spread = f"Each computed {least if least == greatest else f'{least} to {greatest}'} rows."
    if not mean > 0 or most / mean - 1 < _EVEN:
        return f"The load is even: each of {plural(len(ranks), noun)} computed for about {duration(mean)}. {spread}"
    slow = ranks[busy.index(most)]
    waits = fmean(number(seconds_of(rank, "wait_ranks")) for rank in ranks)
    alike = max(number(rank.get("rows")) for rank in ranks) <= 1.02 * min(number(rank.get("rows")) for rank in ranks)
    whose = "it or its host" if each == 1 else "one of its ranks or their host"
    why = f"It had as many rows as the others, so {whose} is slower." if alike else ""
    more = percent(most / mean - 1)
    return (
        f"The busiest, {_name(slow, each)}, computed for {duration(most)}, {more} more than the mean of "
        f"{duration(mean)}. {why} {noun.capitalize()}s waited {duration(waits)} on average for others at the end. "
        f"{spread}"
    )


def _seconds_table(ranks: list[dict[str, Any]], each: int) -> Table:
    phases = [phase for phase in PHASES if any(seconds_of(rank, phase) > 0 for rank in ranks)]
    rows: list[Row] = []
    for rank in ranks:
        seconds = [cell(seconds_of(rank, phase), duration) for phase in phases]
        figures = cell(rank.get("rows"), count), *seconds, cell(rank.get("batch_seconds"), duration)
        rows.append([_name(rank, each), *figures])
    caption = "rows and seconds of each rank" if each == 1 else "rows of each group, and seconds of its first rank"
    header = ("rank" if each == 1 else "group", "rows", *(shown(p).name for p in phases), "mean batch")
    return Table(caption, header, rows)


def _sorted(ranks: list[dict[str, Any]], by: list[float]) -> tuple[list[dict[str, Any]], list[str] | list[int]]:
    """The ranks in order, few with their names, many from the greatest to the least."""
    if len(ranks) <= _MOST_NAMES:
        return ranks, [str(rank.get("rank")) for rank in ranks]
    order = sorted(range(len(ranks)), key=lambda index: -by[index])
    return [ranks[index] for index in order], list(range(len(ranks)))


def _rank_axis(ranks: list[dict[str, Any]], each: int = 1) -> dict[str, Any]:
    if len(ranks) <= _MOST_NAMES:
        return axis("rank" if each == 1 else "group, by its first rank", type="category", showgrid=False)
    return axis(
        f"{rate(len(ranks))} {'ranks' if each == 1 else 'groups'}, the greatest first",
        showticklabels=False,
        showgrid=False,
    )


def _gap(ranks: list[dict[str, Any]]) -> float:
    return 0.5 if len(ranks) <= 4 else 0.2 if len(ranks) <= _MOST_NAMES else 0.0


def _name(rank: dict[str, Any], each: int = 1) -> str:
    """Of a rank, or of the group of so many that it leads."""
    first = rank.get("rank")
    if each > 1 and isinstance(first, int):
        return f"group {first // each} (ranks {first}-{first + each - 1})"
    return f"rank {rank.get('rank')} on {rank.get('host')}"
