"""The first lines of a page: how the job has ended, and its figures; and when it went wrong, what and what to do."""

import math
from html import escape
from typing import Any

from runner.reports.pages.markup import Row, Table, cell, paragraph
from runner.reports.pages.record import Record
from runner.reports.pages.values import count, duration, number, percent, plural, rate, times

# A word and a sign beside the colour, for those who do not see it.
STATES = {
    "whole": ("good", "✓", "whole"),
    "stopped": ("warn", "❚❚", "stopped on purpose"),
    "failed": ("bad", "✕", "failed"),
    "killed": ("bad", "✕", "ended without a last word"),
    "running": ("busy", "▶", "running"),
    "": ("warn", "?", "no record of a job"),
}


def headline(record: Record) -> str:
    """The status and the figures."""
    state, _ = record.ended
    kind, sign, word = STATES[state]
    figures = _of_report(record) if state in ("whole", "stopped") else _of_ledger(record)
    cards = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        f"{f'<dd class=more>{escape(more)}</dd>' if more else ''}</div>"
        for name, value, more in figures
    )
    return (
        f'<p class="status {kind}"><span aria-hidden="true">{sign}</span> {escape(word)}</p>'
        f"{paragraph(_in_a_sentence(record))}<dl class=cards>{cards}</dl>"
    )


def what_went_wrong(record: Record) -> str:
    """What `explain` says of a job that did not come to its end; empty of one that did."""
    state, words = record.ended
    if not words:
        return ""
    details = str(record.failure.get("details") or "") if state == "failed" else ""
    traceback = f"<details><summary>The error in full</summary><pre tabindex=0>{escape(details)}</pre></details>"
    return f'<pre class="words">{escape(words)}</pre>' + (traceback if details else "") + _last_sign(record)


def progress(record: Record) -> tuple[float, float]:
    """Rows that are done, and of how many; NaN where that is not known."""
    report = record.report
    if report.get("status") in ("whole", "stopped"):
        return number(report.get("num_rows")) - number(report.get("remaining_rows")), number(report.get("num_rows"))
    rows = record.fingerprint.get("num_rows", record.status.get("num_rows"))
    size, chunks = number(record.fingerprint.get("chunk_size")), record.committed
    done = sum(min(size, number(rows) - index * size) for index in chunks) if size > 0 else math.nan
    return done, number(rows)


def groups_in_words(record: Record) -> str:
    """How the ranks are grouped; empty where each holds the whole model."""
    return _grouped(len(record.ranks), record.group_size)


def _grouped(ranks: int, each: int) -> str:
    return f"{plural(ranks // each, 'group')} of {each}" if each > 1 else ""


def _in_a_sentence(record: Record) -> str:
    state, _ = record.ended
    done, rows = progress(record)
    share = percent(done / rows) if rows else percent(None)
    if state == "whole":
        jobs = f" It took {record.num_jobs} jobs." if record.num_jobs > 1 else ""
        bad = number(record.report.get("quarantined_rows"))
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
    report = record.report
    found: Any = report.get("efficiency")
    efficiency = found if isinstance(found, dict) else {}
    world_size = number(report.get("world_size"))
    is_all = report.get("computed_rows") == report.get("num_rows")
    computed = "all by this job" if is_all else f"{count(report.get('computed_rows'))} by this job"
    hosts = len({str(rank.get("host")) for rank in record.ranks})
    groups = groups_in_words(record)
    alone = f"one {'group' if groups else 'rank'} alone: {rate(efficiency.get('rank_rows_per_second'))} rows/s"
    how = "measured" if efficiency.get("is_measured") else "estimated"
    figures = [
        ("rows", count(report.get("num_rows")), computed),
        ("rows per second", rate(report.get("rows_per_second")), f"of all ranks; {alone}" if efficiency else ""),
        ("speed-up", times(efficiency.get("speedup")), f"{percent(efficiency.get('efficiency'))} of ideal, {how}"),
        (
            "wall time",
            duration(report.get("wall_seconds")),
            f"first batch after {duration(report.get('startup_seconds'))}",
        ),
        ("ranks", count(world_size), f"{groups}{', ' if groups else ''}under {report.get('launcher')}"),
        ("hosts", count(hosts) if hosts else count(None), ""),
    ]
    if not efficiency:
        del figures[2]
    for name, key, more in (
        ("quarantined", "quarantined_rows", "rows set aside: quarantine.jsonl names them"),
        ("resumed", "resumed_rows", "rows done by earlier jobs"),
        ("not finite", "nonfinite_rows", "rows with NaN or infinity in their predictions"),
        ("in halves", "halved_rows", "rows in batches that did not fit the memory"),
        ("cut", "cut_rows", f"texts, at {count(report.get('token_limit'))} tokens"),
        ("left", "remaining_rows", "rows for the next job"),
    ):
        if number(report.get(key)) > 0:
            figures.append((name, count(report.get(key)), more))
    return figures


def _of_ledger(record: Record) -> list[tuple[str, str, str]]:
    """Of a job that has left no report."""
    done, rows = progress(record)
    figures = [("rows done", count(done), f"of {count(rows)}")] if rows == rows else []
    if record.jobs:
        job = record.jobs[-1]
        launcher, groups = str(job.said.get("launcher", "")), _grouped(job.ranks, job.group_size)
        how = [groups, f"under {launcher}" if launcher else ""]
        figures.append(("ranks", count(job.ranks), ", ".join(filter(None, how))))
        figures.append(("chunks", count(len(job.chunks)), "recorded by the last job"))
        if bad := sum(chunk.bad for each in record.jobs for chunk in each.chunks):
            figures.append(("quarantined", count(bad), "rows set aside"))
        figures.append(("jobs", count(len(record.jobs)), "have worked on it"))
    if (speed := number(record.status.get("rows_per_second"))) > 0:
        figures.append(("rows per second", rate(speed), "when it last told"))
    return figures


def _last_sign(record: Record) -> str:
    """What `status.json` tells of each rank: which were silent for how long when it was last written."""
    said = record.status.get("ranks")
    ranks = [rank for rank in said if isinstance(rank, dict)] if isinstance(said, list) else []
    if not ranks:
        return ""
    late: Any = record.status.get("stragglers")
    late = [str(rank) for rank in late] if isinstance(late, list) else []
    is_grouped = bool(record.jobs) and record.jobs[-1].group_size > 1
    noun, of = ("group", " (by their first ranks)") if is_grouped else ("rank", "")
    words = f"Stragglers then: {plural(len(late), noun)}: {', '.join(late)}{of}." if late else ""
    rows: list[Row] = [
        [cell(rank.get("rank"), count), cell(rank.get("rows"), count), cell(rank.get("seconds_since_last"), duration),
         cell(rank.get("rows_per_second"), rate)]
        for rank in ranks
    ]  # fmt: skip
    header = ("rank", "rows", "silent for", "rows per second")
    caption = f"{noun}s{of} at the last sign of life"
    return (paragraph(words) if words else "") + Table(caption, header, rows).folded()
