"""Rank beside rank: how long each worked, what memory it held, and how fast weights and predictions traveled."""

import math
from collections import defaultdict
from statistics import fmean

from runner.reports.pages.figures import rank_bars
from runner.reports.pages.page import Values
from runner.reports.pages.phases import shown
from runner.reports.pages.record import Record
from runner.reports.pages.values import Fields, duration, number
from runner.telemetry.timeline import PHASES

_LOOP = ("forward", "data_wait", "backpressure", "sync_wait")
_EVEN = 0.05
_MEMORY = (("process", "#56b4e9", "rss_gib"), ("GPU", "#e69f00", "gpu_gib"))


def load_balance(record: Record) -> Values:
    """Show what each rank did in the loop; nothing where the report does not tell of ranks."""
    ranks = [rank for rank in record.leaders if number(rank["forward"]) >= 0]
    if not ranks:
        return {}
    parts = [(shown(phase).name, shown(phase).color, phase) for phase in _LOOP]
    phases = [phase for phase in PHASES if any(number(rank[phase]) > 0 for rank in ranks)]
    return {
        "noun": record.noun,
        "ranks": ranks,
        "slowest": max(ranks, key=lambda rank: rank["forward"]),
        "mean": fmean(rank["forward"] for rank in ranks),
        "even": _EVEN,
        "rows": [number(rank["rows"]) for rank in ranks],
        "waited": fmean(number(rank["sync_wait"]) for rank in ranks),
        "phases": [(shown(phase).name, phase, duration) for phase in phases],
        "chart": rank_bars("balance", ranks, "seconds", parts, record.noun),
    }


def memory(record: Record) -> Values:
    """Show the most memory of each rank; nothing where the report does not tell of ranks."""
    ranks = [
        Fields(rank, rss_gib=rank["peak_rss_bytes"] / 2**30, gpu_gib=number(rank["peak_gpu_bytes"]) / 2**30)
        for rank in record.ranks
        if number(rank["peak_rss_bytes"]) > 0
    ]
    if not ranks:
        return {}
    by_host: dict[str, float] = defaultdict(float)
    for rank in ranks:
        by_host[str(rank["host"])] += rank["peak_rss_bytes"]
    has_gpus = any(rank["gpu_gib"] > 0 for rank in ranks)
    return {
        "ranks": ranks,
        "most": max(ranks, key=lambda rank: rank["rss_gib"]),
        "mean": fmean(rank["peak_rss_bytes"] for rank in ranks),
        "host": max(by_host.items(), key=lambda item: item[1]),
        "chart": rank_bars("memory", ranks, "GiB", _MEMORY if has_gpus else _MEMORY[:1], "rank"),
    }


def rates(record: Record) -> Values:
    """Show what traveled how fast; nothing where the report is missing."""
    report, ranks = record.report, record.ranks
    collected, root = report["collect_bytes"], ranks[0] if ranks else Fields()
    written, writing = (sum(number(rank[key]) for rank in ranks) for key in ("output_bytes", "write"))
    sent = 0 if record.group_size > 1 else report["broadcast_bytes"]  # in groups each rank gets its part alone
    kinds = [
        ("weights, sent to all ranks", sent, report["broadcast_seconds"], "broadcast on rank 0"),
        ("predictions, received by rank 0", collected, report["loop_seconds"], "the whole loop"),
        ("the same, while rounds went on", collected, root["collect"], "collect on rank 0"),
        ("predictions, written", written, writing, "write, all ranks"),
    ]
    rows = [
        (what, amount, seconds, amount / (number(seconds) or math.nan), of)
        for what, amount, seconds, of in kinds
        if number(amount) > 0
    ]
    return {"rows": rows} if rows else {}
