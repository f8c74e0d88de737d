"""Rank beside rank: how long each worked, what memory it held, and how fast weights and predictions traveled."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from runner.reports.pages.blocks import Blocks, Chart, Row, Table, axis, bar_gap, bars, finding, plain
from runner.reports.pages.phases import shown
from runner.reports.pages.record import Record
from runner.reports.pages.values import Fields, Figure, count, duration, number, percent, plural, rate, size
from runner.telemetry.timeline import PHASES

_LOOP = ("forward", "data_wait", "backpressure", "sync_wait")
_MOST_NAMES, _EVEN = 16, 0.05
_KINDS = (("process", "#56b4e9", "peak_rss_bytes"), ("GPU", "#e69f00", "peak_gpu_bytes"))


def seconds_of(rank: Fields, phase: str) -> float:
    """Return how long a rank was in a phase; NaN where that is not known."""
    return rank.fields("seconds").number(phase)


def load_balance(record: Record) -> Blocks:
    """Show what each rank did in the loop; nothing where the report does not tell of ranks."""
    ranks, each = [rank for rank in record.leaders if not math.isnan(seconds_of(rank, "forward"))], record.group_size
    if not ranks:
        return []
    busy = [seconds_of(rank, "forward") for rank in ranks]
    words = _balance_in_words(ranks, busy, each)
    legend = [(shown(phase).name, shown(phase).color) for phase in _LOOP]
    order, x = _sorted(ranks, busy)
    data = [
        bars(color, f"%{{customdata}}<br>{name}: %{{y:.3g}} s", name=name, x=x,
             y=[seconds_of(rank, phase) for rank in order], customdata=[plain(_name(rank, each)) for rank in order])
        for phase, (name, color) in zip(_LOOP, legend, strict=True)
    ]  # fmt: skip
    return [
        finding(words),
        Chart("balance", words, data, _layout("stack", "seconds", ranks, each), 300, [_seconds(ranks, each)], legend),
    ]


def memory(record: Record) -> Blocks:
    """Show the most memory of each rank; nothing where the report does not tell of ranks."""
    ranks = [rank for rank in record.ranks if rank.number("peak_rss_bytes") > 0]
    if not ranks:
        return []
    held = [rank.number("peak_rss_bytes") for rank in ranks]
    order, x = _sorted(ranks, held)
    kinds = _KINDS if any(rank.number("peak_gpu_bytes") > 0 for rank in ranks) else _KINDS[:1]
    data = [
        bars(color, "%{customdata}", name=name, x=x, y=[rank.number(key) / 1024**3 for rank in order],
             customdata=[f"{plain(_name(rank))}<br>{name}: {size(rank.get(key))}" for rank in order])
        for name, color, key in kinds
    ]  # fmt: skip
    by_host: dict[str, float] = defaultdict(float)
    for rank, amount in zip(ranks, held, strict=True):
        by_host[str(rank.get("host"))] += amount
    host = max(by_host, key=lambda name: by_host[name])
    words = (
        f"A rank's process held up to {size(max(held))} ({_name(ranks[held.index(max(held))])}), the mean is "
        f"{size(fmean(held))}. The ranks of {host} held {size(by_host[host])} together, if all came to their most at "
        "once."
    )
    rows = [[_name(rank), *(size(rank.get(key)) for *_, key in _KINDS)] for rank in ranks]
    table = Table("most memory of each rank", ("rank", "process", "GPU, by PyTorch"), rows)
    legend = [(name, color) for name, color, _ in kinds] if len(kinds) > 1 else []
    return [finding(words), Chart("memory", words, data, _layout("group", "GiB", ranks), 260, [table], legend)]


def rates(record: Record) -> Blocks:
    """Show what traveled how fast; nothing where the report is missing."""
    report = record.report
    collected, root = report.get("collect_bytes"), record.ranks[0] if record.ranks else Fields()
    written = sum(rank.number("output_bytes") for rank in record.ranks)
    writing = sum(seconds_of(rank, "write") for rank in record.ranks)
    kinds = [
        ("predictions, received by rank 0", collected, report.get("loop_seconds"), "the whole loop"),
        ("the same, while rounds went on", collected, seconds_of(root, "collect"), "collect on rank 0"),
        ("predictions, written", written, writing, "write, all ranks"),
    ]
    if record.group_size == 1:  # otherwise each rank gets its part alone, which is not counted
        sent = report.get("broadcast_bytes"), report.get("broadcast_seconds")
        kinds.insert(0, ("weights, sent to all ranks", *sent, "broadcast on rank 0"))
    rows: list[Row] = []
    for what, amount, seconds, of in kinds:
        if number(amount) > 0:
            speed = number(amount) / number(seconds) if number(seconds) > 0 else math.nan
            rows.append((what, size(amount), duration(seconds), Figure(f"{size(speed)}/s", speed), of))
    return [Table("what traveled, and how fast", ("what", "amount", "time", "rate", "time of"), rows)] if rows else []


def _balance_in_words(ranks: Sequence[Fields], busy: list[float], each: int) -> str:
    mean, most = fmean(busy), max(busy)
    rows, noun = [rank.number("rows") for rank in ranks], "rank" if each == 1 else "group"
    if len(ranks) == 1:
        return f"One {noun} computed for {duration(mean)}, {count(rows[0])} rows."
    least, greatest = count(min(rows)), count(max(rows))
    spread = f"Each computed {least if least == greatest else f'{least} to {greatest}'} rows."
    if not mean > 0 or most / mean - 1 < _EVEN:
        return f"The load is even: each of {plural(len(ranks), noun)} computed for about {duration(mean)}. {spread}"
    slow = _name(ranks[busy.index(most)], each)
    waits = fmean(seconds_of(rank, "sync_wait") for rank in ranks)
    whose = "it or its host" if each == 1 else "one of its ranks or their host"
    why = f"It had as many rows as the others, so {whose} is slower." if max(rows) <= 1.02 * min(rows) else ""
    return (
        f"The busiest, {slow}, computed for {duration(most)}, {percent(most / mean - 1)} more than the mean of "
        f"{duration(mean)}. {why} {noun.capitalize()}s waited {duration(waits)} on average for others at the end. "
        f"{spread}"
    )


def _seconds(ranks: Sequence[Fields], each: int) -> Table:
    phases = [phase for phase in PHASES if any(seconds_of(rank, phase) > 0 for rank in ranks)]
    rows: list[Row] = [
        (_name(rank, each), count(rank.get("rows")), *(duration(seconds_of(rank, phase)) for phase in phases),
         duration(rank.get("batch_seconds")))
        for rank in ranks
    ]  # fmt: skip
    caption = "rows and seconds of each rank" if each == 1 else "rows of each group, and seconds of its first rank"
    header = ("rank" if each == 1 else "group", "rows", *(shown(phase).name for phase in phases), "mean batch")
    return Table(caption, header, rows)


def _sorted(ranks: list[Fields], by: list[float]) -> tuple[list[Fields], list[Any]]:
    """Return the ranks in the order of their bars, and where these stand: few by name, many from the greatest on."""
    if len(ranks) <= _MOST_NAMES:
        return ranks, [str(rank.get("rank")) for rank in ranks]
    order = sorted(range(len(ranks)), key=lambda index: -by[index])
    return [ranks[index] for index in order], list(range(len(ranks)))


def _layout(barmode: str, unit: str, ranks: Sequence[Fields], each: int = 1) -> dict[str, Any]:
    if len(ranks) <= _MOST_NAMES:
        x = axis("rank" if each == 1 else "group, by its first rank", type="category", showgrid=False)
    else:
        title = f"{rate(len(ranks))} {'ranks' if each == 1 else 'groups'}, the greatest first"
        x = axis(title, showticklabels=False, showgrid=False)
    gap = bar_gap(len(ranks), _MOST_NAMES)
    return {"barmode": barmode, "xaxis": x, "yaxis": axis(unit, rangemode="tozero"), "bargap": gap}


def _name(rank: Fields, each: int = 1) -> str:
    """Name a rank, or the group of so many that it leads."""
    first = rank.get("rank")
    if each > 1 and isinstance(first, int):
        return f"group {first // each} (ranks {first}-{first + each - 1})"
    return f"rank {first} on {rank.get('host')}"
