"""Groups of ranks that hold one replica of the model together: what each rank holds, computes and waits for."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from runner.reports.pages.markup import Chart, Row, Table, axis, cell, paragraph, plain
from runner.reports.pages.members import Member, members_of, share_of
from runner.reports.pages.phases import EXCHANGE, REST, shown
from runner.reports.pages.record import Record
from runner.reports.pages.values import count, duration, percent, size, spans
from runner.reports.pages.waits import bubbles, who_is_waited_for

_MOST_BARS, _MOST_ROWS = 16, 8
_SAMPLED = (
    "What ranks exchange inside of layers is timed in one batch of 16, and its share is taken for the others. The "
    "exchange of a group's first rank includes sending each batch to the others."
)


def groups(record: Record) -> str:
    """The section; empty where each rank holds the whole model, or the report does not tell of ranks."""
    members = members_of(record)
    if not members:
        return ""
    by_group = [members[first : first + record.group_size] for first in range(0, len(members), record.group_size)]
    stages = 1 + max(member.stage for member in members)
    is_measured = any(member.exchange > 0 for member in members)
    words = [_in_words(members, by_group, stages, is_measured)]
    if is_measured and stages > 1:
        words.append(bubbles(record, members, stages))
    if is_measured and (slow := who_is_waited_for(members, by_group, stages)):
        words.append(slow)
    own = _groups_table(by_group, stages)
    notes = paragraph(_SAMPLED, "note") if is_measured and record.group_size > stages else ""
    return (
        "".join(paragraph(word, "finding") for word in words)
        + _draw(members, by_group, " ".join(words)).to_html()
        + notes
        + (own.to_html() if len(by_group) <= _MOST_ROWS else own.folded())
        + _ranks_table(members, stages).folded()
    )


def _in_words(members: Sequence[Member], by_group: Sequence[Sequence[Member]], stages: int, is_measured: bool) -> str:
    each = len(by_group[0])
    of = f" of {each // stages} ranks each" if each > stages else ""
    how = f", as a pipeline of {stages} stages{of}" if stages > 1 else ""
    who = f"The {each} ranks" if len(by_group) == 1 else f"The {each} ranks of each of {len(by_group)} groups"
    parts = [member.part_bytes for member in members if member.part_bytes > 0]
    held = f"; a rank holds {_between(min(parts), max(parts))} of it" if parts else ""
    went = "How much of the forward's time went into exchange and waiting is not known: there were too few batches."
    if is_measured:
        went = f"{percent(share_of(members))} of the forward's time went into exchange and waiting in the groups."
    return f"{went} {who} hold one replica of the model together{how}{held}."


def _draw(members: Sequence[Member], by_group: Sequence[Sequence[Member]], says: str) -> Chart:
    """The forward of each rank in two parts; of many ranks, the mean of each group."""
    bars, x, x_axis = _bars(members, by_group)
    names = [_bar_name(bar, members[-1].stage > 0) for bar in bars]
    computing = [fmean(member.computing for member in bar) for bar in bars]
    waiting = [fmean(member.exchange for member in bar) for bar in bars]
    legend = [("computing", shown("forward").colour), EXCHANGE]
    data = [
        {
            "type": "bar",
            "name": name,
            "x": x,
            "y": seconds,
            "marker": {"color": colour, "line": {"width": 0}},
            "customdata": names,
            "hovertemplate": f"%{{customdata}}<br>{name}: %{{y:.3g}} s<extra></extra>",
        }
        for (name, colour), seconds in zip(legend, (computing, waiting), strict=True)
    ]
    layout = {
        "barmode": "stack",
        "xaxis": x_axis | {"showgrid": False},
        "yaxis": axis("seconds of the forward", rangemode="tozero"),
        "bargap": 0.5 if len(bars) <= 4 else 0.2 if len(bars) <= _MOST_BARS else 0.0,
    }
    return Chart("exchange", says, data, layout, 300, legend=legend)


def _bars(
    members: Sequence[Member], by_group: Sequence[Sequence[Member]]
) -> tuple[list[Sequence[Member]], list[Any], dict[str, Any]]:
    """The ranks of each bar, where it stands, and the axis for that."""
    if len(members) <= _MOST_BARS or len(by_group) == 1:
        ranks = [str(member.rank) for member in members]
        bars: list[Sequence[Member]] = [[member] for member in members]
        if len(bars) > _MOST_BARS:
            return bars, ranks, axis(f"{count(len(bars))} ranks, in order", type="category", showticklabels=False)
        if len(by_group) == 1 and not members[-1].stage:
            return bars, ranks, axis("rank", type="category")
        of = "group" if len(by_group) > 1 else "stage"
        names = [f"{of} {getattr(member, of)}" for member in members]
        return bars, [names, ranks], axis(f"ranks of each {of}", type="multicategory", dividercolor=REST)
    bars = list(by_group)
    if len(bars) <= _MOST_BARS:
        groups = [str(bar[0].group) for bar in bars]
        return bars, groups, axis("group, the mean of its ranks", type="category")
    bars.sort(key=lambda bar: -fmean(member.forward for member in bar))
    title = f"{count(len(bars))} groups, the mean of the ranks of each, the longest forward first"
    return bars, list(range(len(bars))), axis(title, showticklabels=False)


def _bar_name(bar: Sequence[Member], is_staged: bool) -> str:
    if len(bar) > 1:
        return plain(f"group {bar[0].group}, ranks {spans([member.rank for member in bar])}")
    return plain(f"rank {bar[0].rank} on {bar[0].host}" + (f", stage {bar[0].stage}" if is_staged else ""))


def _groups_table(by_group: Sequence[Sequence[Member]], stages: int) -> Table:
    rows: list[Row] = []
    for index, group in enumerate(by_group):
        parts = [member.part_bytes for member in group]
        held = sum(parts)
        figures = (
            cell(held, size),
            cell(group[0].rows, count),
            cell(fmean(member.forward for member in group), duration),
            cell(fmean(member.exchange for member in group), duration),
            cell(share_of(group), percent),
        )
        hosts = ", ".join(dict.fromkeys(member.host for member in group))
        ranks = spans([member.rank for member in group])
        staged = [_stages_in_words(group, stages)] if stages > 1 else []
        rows.append([f"group {index}", ranks, *staged, hosts, *figures])
    staged = ["stages"] if stages > 1 else []
    header = ("group", "ranks", *staged, "hosts", "parts together", "rows", "forward", EXCHANGE[0], "of the forward")
    return Table("the groups; seconds are the mean of their ranks", header, rows)


def _ranks_table(members: Sequence[Member], stages: int) -> Table:
    rows: list[Row] = []
    for member in members:
        staged = [cell(member.stage, count)] if stages > 1 else []
        figures = (
            cell(member.part_bytes, size),
            cell(member.forward, duration),
            cell(member.computing, duration),
            cell(member.exchange, duration),
            cell(member.exchange / member.forward if member.forward > 0 else math.nan, percent),
        )
        rows.append([f"rank {member.rank} on {member.host}", cell(member.group, count), *staged, *figures])
    staged_header = ["stage"] if stages > 1 else []
    header = ("rank", "group", *staged_header, "its part", "forward", "computing", EXCHANGE[0], "of the forward")
    return Table("each rank of the groups", header, rows)


def _stages_in_words(group: Sequence[Member], stages: int) -> str:
    """0: ranks 0-1; 1: ranks 2-3."""
    held = (spans([member.rank for member in group if member.stage == stage]) for stage in range(stages))
    return "; ".join(f"{stage}: {'ranks' if '-' in ranks else 'rank'} {ranks}" for stage, ranks in enumerate(held))


def _between(least: float, greatest: float) -> str:
    first, last = size(least), size(greatest)
    return first if first == last else f"{first} to {last}"
