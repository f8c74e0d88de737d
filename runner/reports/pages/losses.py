"""Where the time went: from what the forward calls alone would take, loss by loss, to the wall time."""

import math
from typing import Any

from runner.reports.pages.markup import Chart, Row, Table, axis, cell, paragraph, plain
from runner.reports.pages.phases import IDEAL, LOSSES, REST, START_UP, shown
from runner.reports.pages.predicted import other_ranks
from runner.reports.pages.record import Record
from runner.reports.pages.values import duration, number, percent

_SMALL, _SECOND = 0.05, 0.1  # of the wall time: a loss, and the one after the largest, that is worth a word
_START_UP = ("launch", "connect", "data", "model", "checks", "output")


def where_the_time_went(record: Record) -> str:
    """The section; empty where the job has no efficiency."""
    found = record.report.get("efficiency")
    if not isinstance(found, dict):
        return ""
    said = found.get("losses")
    losses = {str(name): number(lost) for name, lost in said.items()} if isinstance(said, dict) else {}
    ideal, wall = number(found.get("ideal_seconds")), number(record.report.get("wall_seconds")) or math.nan
    noun = "rank" if record.group_size == 1 else "group"
    measured = (
        f"The speed of one {noun} alone was measured, by --baseline."
        if found.get("is_measured")
        else f"The speed of one {noun} is taken from the {noun}s together, while none made another wait; --baseline "
        f"measures it alone, and so tells what {noun}s cost one another."
    )
    whose = "the ranks."
    if record.group_size > 1:
        whose = "the first ranks of the groups. What a group exchanges is part of its forward calls, and so of 'ideal'."
    return (
        paragraph(_largest(record, losses, wall), "finding")
        + _waterfall(ideal, losses, wall).to_html()
        + paragraph(f"Seconds are the mean of {whose} {measured}", "note")
        + other_ranks(record, found)
    )


def losses_of(report: dict[str, Any]) -> dict[str, float]:
    """Those of a report that are known, the largest first, each as a share of the wall time."""
    found = report.get("efficiency")
    said = found.get("losses") if isinstance(found, dict) else None
    wall = number(report.get("wall_seconds")) or math.nan
    losses = {str(name): number(lost) / wall for name, lost in said.items()} if isinstance(said, dict) else {}
    known = {name: share for name, share in losses.items() if not math.isnan(share)}
    return dict(sorted(known.items(), key=lambda item: -item[1]))


def _largest(record: Record, losses: dict[str, float], wall: float) -> str:
    """The largest loss, what to do about it, and the same of the next where it is large, too."""
    found = [(name, share) for name, share in losses_of(record.report).items() if share >= _SMALL][:2]
    if not found:
        return f"No loss is above {percent(_SMALL)} of the wall time: there is little to gain but by faster ranks."
    words: list[str] = []
    for begins, (name, share) in zip(("The largest loss is", "Then comes"), found, strict=False):
        if words and share < _SECOND:
            break
        meaning, advice = _meaning(record, name)
        took = f"{begins} {name}, {duration(losses[name])} of {duration(wall)} ({percent(share)})"
        words.append(f"{took}: {meaning}. {advice}" if meaning else f"{took}.")
    return " ".join(words)


def _meaning(record: Record, name: str) -> tuple[str, str]:
    """What a loss is, and what to do about it."""
    _, meaning, advice = LOSSES.get(name, ("", "", ""))
    if name == "start-up":
        seconds = [rank["seconds"] for rank in record.leaders if isinstance(rank.get("seconds"), dict)]
        phases = {phase: sum(number(of_rank.get(phase)) for of_rank in seconds) for phase in _START_UP}
        most = max(phases, key=lambda phase: -1.0 if math.isnan(phases[phase]) else phases[phase])
        if phases[most] > 0:
            meaning += f", most of it '{shown(most).name}' ({shown(most).meaning})"
            advice = START_UP[most]
    return meaning, advice


def _waterfall(ideal: float, losses: dict[str, float], wall: float) -> Chart:
    steps = [("ideal", 0.0, ideal, IDEAL)]
    at = ideal
    for name, lost in losses.items():
        if not lost:
            continue
        steps.append((name, at, lost, LOSSES.get(name, (REST, "", ""))[0]))
        at += lost if lost == lost else 0.0
    steps.append(("wall time", 0.0, wall, REST))
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [plain(name) for name, *_ in steps],
            "base": [base for _, base, _, _ in steps],
            "x": [width for _, _, width, _ in steps],
            "marker": {"color": [colour for *_, colour in steps]},
            "text": [f"{duration(width)} ({percent(width / wall)})" for _, _, width, _ in steps],
            "textposition": "outside",
            "cliponaxis": False,
            "constraintext": "none",
            "hovertemplate": "%{y}: %{text}<extra></extra>",
        }
    ]
    y = axis("", autorange="reversed", showgrid=False)
    narrow = {"xaxis": {"range": [0, 2 * wall]}}
    layout = {
        "xaxis": axis("seconds", range=[0, 1.3 * wall]),
        "yaxis": y,
        "bargap": 0.25,
        "meta": {"narrow": narrow},
    }
    meanings = {"ideal": "forward calls alone, evenly shared", "wall time": "the sum of all above"}
    rows: list[Row] = [
        [name, cell(width, duration), cell(width / wall, percent), meanings.get(name) or LOSSES.get(name, ("", ""))[1]]
        for name, _, width, _ in steps
    ]
    table = Table("what the wall time is made of", ("part", "seconds", "of the wall time", "what it is"), rows)
    says = (
        f"Bars from the ideal {duration(ideal)} through each loss to the wall time of {duration(wall)}: "
        + ", ".join(f"{name} {duration(lost)}" for name, lost in losses.items())
        + "."
    )
    return Chart("losses", says, data, layout, 70 + 34 * len(steps), [table])
