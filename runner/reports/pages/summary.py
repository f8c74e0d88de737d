"""The first section: the end of the job, and its figures; of a failed job, the fault and what to do."""

from runner.reports.pages.losses import losses_of
from runner.reports.pages.page import Values, render
from runner.reports.pages.record import Record
from runner.reports.pages.values import objects, plural

# A color, and a sign and a word beside it, for those who do not see it.
STATES = {
    "whole": ("good", "✓", "complete"),
    "stopped": ("warn", "❚❚", "stopped on purpose"),
    "failed": ("bad", "✕", "failed"),
    "killed": ("bad", "✕", "killed"),
    "running": ("busy", "▶", "running"),
    "": ("warn", "?", "no record of a job"),
}


def summary(record: Record) -> str:
    """Say in a few lines of text what the page says first."""
    words = record.ended[1]
    return words or render("summary.txt.j2", **headline(record), losses=losses_of(record.report)).rstrip()


def headline(record: Record) -> Values:
    """Show the status and the figures."""
    state = record.ended[0]
    status = STATES[state]
    if state == "whole" and record.num_bad > 0:
        status = ("warn", "!", f"{status[2]}, {plural(record.num_bad, 'row')} set aside")
    return {"record": record, "report": record.report, "state": state, "status": status}


def what_went_wrong(record: Record) -> Values:
    """Show what `explain` says of a job that did not come to its end, and which ranks were silent for how long."""
    state, words = record.ended
    if not words:
        return {}
    late = record.status["stragglers"]
    return {
        "words": words,
        "details": record.failure["details"] if state == "failed" else "",
        "noun": "group" if record.jobs and record.jobs[-1].group_size > 1 else "rank",
        "late": late if isinstance(late, list) else [],
        "ranks": objects(record.status["ranks"]),
    }
