"""A run in a few lines of text: what its page says first."""

from runner.reports.pages.headline import STATES, groups_in_words
from runner.reports.pages.losses import losses_of
from runner.reports.pages.record import Record
from runner.reports.pages.values import count, duration, percent, plural, rate, times


def summary(record: Record) -> str:
    """The status, the figures and the largest loss."""
    state, words = record.ended
    if words:
        return words
    report = record.report
    rows = f"{count(report.get('computed_rows'))} of {count(report.get('num_rows'))} rows by this job"
    speed = f"{rate(report.get('rows_per_second'))} rows/s on {plural(report.get('world_size'), 'rank')}"
    groups = groups_in_words(record)
    speed += f" in {groups}" if groups else ""
    wall = duration(report.get("wall_seconds"))
    lines = [f"{record.output}: {STATES[state][2]}. {rows}, {speed}, {wall} in all."]
    found = report.get("efficiency")
    if isinstance(found, dict):
        how = "measured" if found.get("is_measured") else "estimated"
        lines.append(f"Speed-up {times(found.get('speedup'))}, {percent(found.get('efficiency'))} of ideal ({how}).")
        for name, share in [*losses_of(report).items()][:1]:
            lines.append(f"Largest loss: {name}, {percent(share)} of the wall time.")
    return "\n".join(lines)
