"""The first section: the end of the job, and its figures; of a failed job, the fault and what to do."""

import math

from runner.reports.pages.blocks import Block, Blocks, Row, Table, prose
from runner.reports.pages.losses import losses_of
from runner.reports.pages.record import Record
from runner.reports.pages.values import count, duration, number, percent, plural, rate, times

# A word and a sign beside the color, for those who do not see it.
STATES = {
    "whole": ("good", "✓", "whole"),
    "stopped": ("warn", "❚❚", "stopped on purpose"),
    "failed": ("bad", "✕", "failed"),
    "killed": ("bad", "✕", "ended without a last word"),
    "running": ("busy", "▶", "running"),
    "": ("warn", "?", "no record of a job"),
}
# Rows that not every job has.
_SOME_ROWS = (
    ("quarantined", "quarantined_rows", "rows set aside: quarantine.jsonl names them"),
    ("resumed", "resumed_rows", "rows done by earlier jobs"),
    ("not finite", "nonfinite_rows", "rows with NaN or infinity in their predictions"),
    ("in halves", "halved_rows", "rows in batches that did not fit the memory"),
    ("cut", "cut_rows", "texts, at {limit} tokens"),
    ("left", "remaining_rows", "rows for the next job"),
)


def summary(record: Record) -> str:
    """Say in a few lines of text what the page says first."""
    state, words = record.ended
    if words:
        return words
    report = record.report
    rows = f"{count(report.get('computed_rows'))} of {count(report.get('num_rows'))} rows by this job"
    speed = f"{rate(report.get('rows_per_second'))} rows/s on {plural(report.get('world_size'), 'rank')}"
    if groups := _grouped(len(record.ranks), record.group_size):
        speed += f" in {groups}"
    wall = duration(report.get("wall_seconds"))
    lines = [f"{record.output}: {STATES[state][2]}. {rows}, {speed}, {wall} in all."]
    if efficiency := report.fields("efficiency"):
        how = "measured" if efficiency.get("is_measured") else "estimated"
        of_ideal = percent(efficiency.get("efficiency"))
        lines.append(f"Speed-up {times(efficiency.get('speedup'))}, {of_ideal} of ideal ({how}).")
        losses = [
            f"Largest loss: {name}, {percent(share)} of the wall time." for name, share in losses_of(report).items()
        ]
        lines += losses[:1]
    return "\n".join(lines)


def headline(record: Record) -> Blocks:
    """Show the status and the figures."""
    state, _ = record.ended
    kind, sign, word = STATES[state]
    figures = _of_report(record) if state in ("whole", "stopped") else _of_ledger(record)
    return [Block("status", (sign, word), kind), prose(_in_a_sentence(record)), Block("cards", figures)]


def what_went_wrong(record: Record) -> Blocks:
    """Show what `explain` says of a job that did not come to its end."""
    state, words = record.ended
    if not words:
        return []
    details = str(record.failure.get("details") or "") if state == "failed" else ""
    return [Block("words", words), *([Block("details", details)] if details else []), *_last_sign(record)]


def _grouped(ranks: int, each: int) -> str:
    """Say how the ranks are grouped; nothing where each holds the whole model."""
    return f"{plural(ranks // each, 'group')} of {each}" if each > 1 else ""


def _progress(record: Record) -> tuple[float, float]:
    """Return the rows that are done, and of how many; NaN where that is not known."""
    report = record.report
    if report.get("status") in ("whole", "stopped"):
        return report.number("num_rows") - report.number("remaining_rows"), report.number("num_rows")
    rows = number(record.fingerprint.get("num_rows", record.status.get("num_rows")))
    size = record.fingerprint.number("chunk_size")
    done = sum(min(size, rows - index * size) for index in record.committed) if size > 0 else math.nan
    return done, rows


def _in_a_sentence(record: Record) -> str:
    state, _ = record.ended
    done, rows = _progress(record)
    share = percent(done / rows if rows else None)
    if state == "whole":
        jobs = f" It took {record.num_jobs} jobs." if record.num_jobs > 1 else ""
        bad = record.report.number("quarantined_rows")
        set_aside = f", {count(bad)} of them set aside" if bad > 0 else ""
        return f"{record.output} has all of its {count(rows)} rows{set_aside}.{jobs}"
    if state == "stopped":
        by = record.report.get("stopped_by") or "a signal or the time limit"
        return f"Stopped by {by}: {count(done)} of {count(rows)} rows ({share}) are done; the same command goes on."
    if not state:
        return "Nothing here tells of a job."
    again = f" To see more of it later: python -m runner report {record.output}" if state == "running" else ""
    return f"{count(done)} of {count(rows)} rows ({share}) are recorded.{again}"


def _of_report(record: Record) -> list[tuple[str, str, str]]:
    report, efficiency = record.report, record.report.fields("efficiency")
    is_all = report.get("computed_rows") == report.get("num_rows")
    computed = "all by this job" if is_all else f"{count(report.get('computed_rows'))} by this job"
    hosts = len({str(rank.get("host")) for rank in record.ranks})
    groups = _grouped(len(record.ranks), record.group_size)
    alone = f"of all ranks; one {'group' if groups else 'rank'} alone: {rate(efficiency.get('rank_rows_per_second'))}"
    how = "measured" if efficiency.get("is_measured") else "estimated"
    under = ", ".join(filter(None, (groups, f"under {report.get('launcher')}")))
    first = f"first batch after {duration(report.get('startup_seconds'))}"
    figures: list[tuple[str, str, str]] = [
        ("rows", count(report.get("num_rows")), computed),
        ("rows per second", rate(report.get("rows_per_second")), f"{alone} rows/s" if efficiency else ""),
        ("speed-up", times(efficiency.get("speedup")), f"{percent(efficiency.get('efficiency'))} of ideal, {how}"),
        ("wall time", duration(report.get("wall_seconds")), first),
        ("ranks", count(report.get("world_size")), under),
        ("hosts", count(hosts or None), ""),
    ]
    if not efficiency:
        del figures[2]
    some = [row for row in _SOME_ROWS if report.number(row[1]) > 0]
    limit = count(report.get("token_limit"))
    return figures + [(name, count(report.get(key)), more.format(limit=limit)) for name, key, more in some]


def _of_ledger(record: Record) -> list[tuple[str, str, str]]:
    """Return the figures of a job that has left no report."""
    done, rows = _progress(record)
    figures: list[tuple[str, str, str]] = [] if math.isnan(rows) else [("rows done", count(done), f"of {count(rows)}")]
    if record.jobs:
        job = record.jobs[-1]
        launcher = str(job.start.get("launcher", ""))
        how = [_grouped(job.ranks, job.group_size), f"under {launcher}" if launcher else ""]
        figures.append(("ranks", count(job.ranks), ", ".join(filter(None, how))))
        figures.append(("chunks", count(len(job.chunks)), "recorded by the last job"))
        if bad := sum(chunk.bad for each in record.jobs for chunk in each.chunks):
            figures.append(("quarantined", count(bad), "rows set aside"))
        figures.append(("jobs", count(len(record.jobs)), "have worked on it"))
    if (speed := record.status.number("rows_per_second")) > 0:
        figures.append(("rows per second", rate(speed), "when it last told"))
    return figures


def _last_sign(record: Record) -> Blocks:
    """Show what `status.json` tells of each rank: which were silent for how long when it was last written."""
    ranks, late = record.status.objects("ranks"), record.status.get("stragglers")
    if not ranks:
        return []
    is_grouped = bool(record.jobs) and record.jobs[-1].group_size > 1
    noun, of = ("group", " (by their first ranks)") if is_grouped else ("rank", "")
    words = []
    if isinstance(late, list) and late:
        words.append(prose(f"Stragglers then: {plural(len(late), noun)}: {', '.join(map(str, late))}{of}."))
    rows: list[Row] = [
        (count(rank.get("rank")), count(rank.get("rows")), duration(rank.get("seconds_since_last")),
         rate(rank.get("rows_per_second")))
        for rank in ranks
    ]  # fmt: skip
    header = ("rank", "rows", "silent for", "rows per second")
    return [*words, Table(f"{noun}s{of} at the last sign of life", header, rows, is_folded=True)]
