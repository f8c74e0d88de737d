"""Where the time went: from what the forward calls alone would take, loss by loss, to the wall time."""

import math

from runner.reports.pages.blocks import Block, Blocks, Chart, Row, Table, axis, bars, finding, plain, prose
from runner.reports.pages.phases import FORWARD, LOSSES, REST, START_UP, shown
from runner.reports.pages.record import Record
from runner.reports.pages.values import Fields, count, duration, percent, plural, times

_SMALL, _SECOND = 0.05, 0.1  # of the wall time: a loss, and the one after the largest, that is worth a word
_MEANINGS = {"ideal": "forward calls alone, evenly shared", "wall time": "the sum of all above"}
_NAMES = {1.0: "as it was", 2.0: "twice as many", 4.0: "four times as many"}


def where_the_time_went(record: Record) -> Blocks:
    """Show the losses; nothing where the job has no efficiency."""
    efficiency, noun = record.report.fields("efficiency"), record.noun
    if not efficiency:
        return []
    measured = (
        f"The speed of one {noun} alone was measured, by --baseline."
        if efficiency.get("is_measured")
        else f"The speed of one {noun} is taken from the {noun}s together, while none made another wait; --baseline "
        f"measures it alone, and so tells what {noun}s cost one another."
    )
    whose = "the ranks."
    if record.group_size > 1:
        whose = "the first ranks of the groups. What a group exchanges is part of its forward calls, and so of 'ideal'."
    return [
        finding(_largest(record)),
        _waterfall(record.report),
        prose(f"Seconds are the mean of {whose} {measured}", "note"),
        *_other_ranks(record),
    ]


def losses_of(report: Fields) -> dict[str, float]:
    """Return those that are known, the largest first, each as a share of the wall time."""
    losses, wall = report.fields("efficiency").fields("losses"), report.number("wall_seconds") or math.nan
    known = {name: share for name in losses if not math.isnan(share := losses.number(name) / wall)}
    return dict(sorted(known.items(), key=lambda item: -item[1]))


def _largest(record: Record) -> str:
    """Name the largest loss, what to do about it, and the same of the next where it is large, too."""
    losses = record.report.fields("efficiency").fields("losses")
    large = [(name, share) for name, share in losses_of(record.report).items() if share >= _SMALL][:2]
    if not large:
        return f"No loss is above {percent(_SMALL)} of the wall time: there is little to gain but by faster ranks."
    words: list[str] = []
    for begins, (name, share) in zip(("The largest loss is", "Then comes"), large, strict=False):
        if words and share < _SECOND:
            break
        wall = duration(record.report.get("wall_seconds"))
        took = f"{begins} {name}, {duration(losses[name])} of {wall} ({percent(share)})"
        words.append(f"{took}{_meaning(record, name)}")
    return " ".join(words)


def _meaning(record: Record, name: str) -> str:
    """Say what a loss is, and what to do about it."""
    if name not in LOSSES:
        return "."
    _, meaning, advice = LOSSES[name]
    if name == "start-up":
        phases = {phase: sum(rank.fields("seconds").number(phase) for rank in record.leaders) for phase in START_UP}
        most = max(phases, key=lambda phase: max(-1.0, phases[phase]))  # -1 for NaN
        if phases[most] > 0:
            meaning += f", most of it '{shown(most).name}' ({shown(most).meaning})"
            advice = START_UP[most]
    return f": {meaning}. {advice}"


def _waterfall(report: Fields) -> Chart:
    losses, wall = report.fields("efficiency").fields("losses"), report.number("wall_seconds") or math.nan
    ideal = report.fields("efficiency").number("ideal_seconds")
    lost = {name: losses.number(name) for name in losses}
    steps, end = [("ideal", 0.0, ideal, FORWARD, _MEANINGS["ideal"])], ideal
    for name, seconds in lost.items():
        if seconds:
            color, meaning, _ = LOSSES.get(name, (REST, "", ""))
            steps.append((name, end, seconds, color, meaning))
            end += 0.0 if math.isnan(seconds) else seconds
    steps.append(("wall time", 0.0, wall, REST, _MEANINGS["wall time"]))
    names, bases, widths, colors, meanings = zip(*steps, strict=True)
    labels = [f"{duration(width)} ({percent(width / wall)})" for width in widths]
    look = {"text": labels, "textposition": "outside", "cliponaxis": False, "constraintext": "none"}
    y = list(map(plain, names))
    data = bars(colors, "%{y}: %{text}", orientation="h", y=y, base=bases, x=widths, **look)
    layout = {
        "xaxis": axis("seconds", range=[0, 1.3 * wall]),
        "yaxis": axis("", autorange="reversed", showgrid=False),
        "bargap": 0.25,
        "meta": {"narrow": {"xaxis": {"range": [0, 2 * wall]}}},
    }
    rows: list[Row] = [
        (name, duration(width), percent(width / wall), meaning)
        for name, width, meaning in zip(names, widths, meanings, strict=True)
    ]
    table = Table("what the wall time is made of", ("part", "seconds", "of the wall time", "what it is"), rows)
    each = ", ".join(f"{name} {duration(seconds)}" for name, seconds in lost.items())
    says = f"Bars from the ideal {duration(ideal)} through each loss to the wall time of {duration(wall)}: {each}."
    return Chart("losses", says, [data], layout, 70 + 34 * len(steps), [table])


def _other_ranks(record: Record) -> Blocks:
    """Show the predicted times of such a job on other numbers of ranks; see `runner.telemetry.efficiency`."""
    predicted, world_size = record.report.fields("efficiency").objects("predicted"), record.report.number("world_size")
    if not predicted or not world_size > 0:
        return []
    now = next((item.number("wall_seconds") for item in predicted if item.get("ranks") == world_size), math.nan)
    a_host = world_size / max(1, len({str(rank.get("host")) for rank in record.ranks}))
    rows: list[Row] = []
    for item in predicted:
        ranks, wall = item.number("ranks"), item.number("wall_seconds")
        is_host = record.group_size == 1 or ranks - world_size >= a_host
        name = "half as many" if ranks < world_size else "one host more" if is_host else "one group more"
        faster = times(now / wall if wall else None)
        figures = duration(wall), faster, times(item.get("speedup")), duration(ranks * wall)
        rows.append([_NAMES.get(ranks / world_size, name), count(ranks), *figures])
    fast = ("times as fast as now", f"speed-up over one {record.noun}", "ranks x wall time")
    caption = "a job like this one on other numbers of ranks, by a model"
    model = (
        f"A model, not a measurement: the loop shrinks with the ranks, down to one chunk a {record.noun}; everything "
        f"else takes as long as on {plural(world_size, 'rank')}. It does not know what more ranks cost one another."
    )
    return [
        Block("heading", "What other numbers of ranks would buy"),
        Table(caption, ("ranks", "number", "wall time", *fast), rows),
        prose(model, "note"),
    ]
