"""Groups of ranks that hold one replica of the model together: what each rank holds, computes and waits for."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from runner.comm.groups import default_micro_batches
from runner.reports.pages.balance import seconds_of
from runner.reports.pages.blocks import Blocks, Chart, Table, axis, bar_gap, bars, finding, plain, prose
from runner.reports.pages.phases import EXCHANGE, FORWARD, REST
from runner.reports.pages.record import Record
from runner.reports.pages.values import count, duration, percent, size, spans

_MOST_BARS, _MOST_ROWS = 16, 8
_UNEVEN = 0.1  # of the forward: so much more computing than another's is worth a word
_SAMPLED = (
    "What ranks exchange inside of layers is timed in one batch of 16, and its share is taken for the others. The "
    "exchange of a group's first rank includes sending each batch to the others."
)


class _Member(NamedTuple):
    """One rank.

    Attributes:
        stage: of a pipeline, that it holds; 0 where there is none.
        forward, exchange: seconds; the second are part of the first.
    """

    rank: int
    host: str
    group: int
    stage: int
    rows: float
    part_bytes: float
    forward: float
    exchange: float

    @property
    def computing(self) -> float:
        """The rest of the forward."""
        return self.forward - self.exchange


_Members = Sequence[_Member]


def groups(record: Record) -> Blocks:
    """Show the groups; nothing where each rank holds the whole model, or the report does not tell of ranks."""
    members, each = _members_of(record), record.group_size
    if not members:
        return []
    by_group = [members[first : first + each] for first in range(0, len(members), each)]
    stages = 1 + members[-1].stage
    is_measured = any(member.exchange > 0 for member in members)
    words = [_in_words(members, by_group, stages, is_measured)]
    if is_measured:
        words += [_bubbles(record, members, stages)] if stages > 1 else []
        words += filter(None, [_slow_stage(members, stages) if stages > 1 else _slow_rank(by_group)])
    notes = [prose(_SAMPLED, "note")] if is_measured and each > stages else []
    chart = _draw(members, by_group, " ".join(words))
    return [*map(finding, words), chart, *notes, _groups_table(by_group, stages), _ranks_table(members, stages)]


def _members_of(record: Record) -> list[_Member]:
    """Return all ranks, in order; none where each holds the whole model, or the report does not tell of them all."""
    each, members = record.group_size, []
    stages = int(max(1.0, record.config.number("pipeline-stages")))  # in this order NaN is not the greater
    a_stage = each // stages if each % stages == 0 else each
    for index, rank in enumerate(record.ranks if each > 1 else []):
        forward, exchange = seconds_of(rank, "forward"), rank.number("group_seconds")
        if math.isnan(forward):
            return []
        exchange = min(max(exchange, 0.0), forward) if exchange == exchange else 0.0
        place = index // each, index % each // a_stage
        amounts = rank.number("rows"), rank.number("part_bytes"), forward, exchange
        members.append(_Member(index, str(rank.get("host")), *place, *amounts))
    return members


def _in_words(members: _Members, by_group: Sequence[_Members], stages: int, is_measured: bool) -> str:
    each = len(by_group[0])
    of = f" of {each // stages} ranks each" if each > stages else ""
    how = f", as a pipeline of {stages} stages{of}" if stages > 1 else ""
    who = f"The {each} ranks" if len(by_group) == 1 else f"The {each} ranks of each of {len(by_group)} groups"
    parts = [member.part_bytes for member in members if member.part_bytes > 0]
    sizes = " to ".join(dict.fromkeys((size(min(parts)), size(max(parts))))) if parts else ""
    held = f"; a rank holds {sizes} of it" if parts else ""
    went = "How much of the forward's time went into exchange and waiting is not known: there were too few batches."
    if is_measured:
        went = f"{percent(_share_of(members))} of the forward's time went into exchange and waiting in the groups."
    return f"{went} {who} hold one replica of the model together{how}{held}."


def _bubbles(record: Record, members: _Members, stages: int) -> str:
    """Say which share of a pipeline's time waits would take if nothing else did."""
    asked, rows = record.config.number("micro-batches"), record.config.number("batch-size")
    micro_batches = int(asked) if asked >= 1 else default_micro_batches(stages)
    if record.config.fields("model-args").get("max_new_tokens"):  # a cache of a batch's tokens cannot be cut
        micro_batches = 1
    if rows >= 1:
        micro_batches = min(micro_batches, int(rows))
    ideal = (stages - 1) / (micro_batches + stages - 1)
    parts = f"{count(micro_batches)} micro-batches" if micro_batches > 1 else "1 micro-batch"
    return (
        f"With {parts} in a batch, a pipeline of {stages} stages is idle for {percent(ideal)} of its time at best, the "
        "bubbles of GPipe: (P - 1) / (N + P - 1) for P stages and N micro-batches (Huang et al., 2019). The "
        f"{percent(_share_of(members))} above are these bubbles, all transfers, and waits for stages that take longer."
    )


def _slow_stage(members: _Members, stages: int) -> str:
    """Say which stage computes for much longer than another, whose ranks so wait for it; nothing where none does."""
    computing = [_mean("computing", [member for member in members if member.stage == stage]) for stage in range(stages)]
    most, least = computing.index(max(computing)), computing.index(min(computing))
    if not computing[most] - computing[least] > _UNEVEN * _mean("forward", members):
        return ""
    return (
        f"Stage {most} computed for longest, {duration(computing[most])}, and stage {least} for "
        f"{duration(computing[least])}: the others wait for stage {most}. --split-points can give it fewer layers."
    )


def _slow_rank(by_group: Sequence[_Members]) -> str:
    """Say which rank computes for much longer than another, which so waits for it; nothing where none does."""
    ends = [[pick(group, key=lambda member: member.computing) for pick in (max, min)] for group in by_group]
    slow, idle = max(ends, key=lambda pair: pair[0].computing - pair[1].computing)
    if not slow.computing - idle.computing > _UNEVEN * idle.forward:
        return ""
    where = f"In group {slow.group}, rank" if len(by_group) > 1 else "Rank"
    why = "It has post-processing to do, too, or it" if slow is by_group[slow.group][0] else "It"
    return (
        f"{where} {slow.rank} on {slow.host} computed for longest, {duration(slow.computing)}, and rank {idle.rank} "
        f"for {duration(idle.computing)}: the others wait for rank {slow.rank}. {why} or its host is slower."
    )


def _draw(members: _Members, by_group: Sequence[_Members], says: str) -> Chart:
    """Draw the forward of each rank in two parts; of many ranks, the mean of each group."""
    shown, x, x_axis = _bars(members, by_group)
    names = [_bar_name(bar, members[-1].stage > 0) for bar in shown]
    parts = (("computing", FORWARD, "computing"), (*EXCHANGE[:2], "exchange"))
    data = [
        bars(color, f"%{{customdata}}<br>{name}: %{{y:.3g}} s", name=name, x=x, customdata=names,
             y=[_mean(part, bar) for bar in shown])
        for name, color, part in parts
    ]  # fmt: skip
    layout = {
        "barmode": "stack",
        "xaxis": x_axis | {"showgrid": False},
        "yaxis": axis("seconds of the forward", rangemode="tozero"),
        "bargap": bar_gap(len(shown), _MOST_BARS),
    }
    return Chart("exchange", says, data, layout, 300, legend=[(name, color) for name, color, _ in parts])


def _bars(members: _Members, by_group: Sequence[_Members]) -> tuple[list[_Members], list[Any], dict[str, Any]]:
    """Return the ranks of each bar, where it stands, and the axis for that."""
    if len(members) <= _MOST_BARS or len(by_group) == 1:
        ranks = [str(member.rank) for member in members]
        shown: list[_Members] = [[member] for member in members]
        if len(shown) > _MOST_BARS:
            return shown, ranks, axis(f"{count(len(shown))} ranks, in order", type="category", showticklabels=False)
        if len(by_group) == 1 and not members[-1].stage:
            return shown, ranks, axis("rank", type="category")
        of = "group" if len(by_group) > 1 else "stage"
        names = [f"{of} {getattr(member, of)}" for member in members]
        return shown, [names, ranks], axis(f"ranks of each {of}", type="multicategory", dividercolor=REST)
    if len(by_group) <= _MOST_BARS:
        names = [str(bar[0].group) for bar in by_group]
        return [*by_group], names, axis("group, the mean of its ranks", type="category")
    shown = sorted(by_group, key=lambda bar: -_mean("forward", bar))
    title = f"{count(len(shown))} groups, the mean of the ranks of each, the longest forward first"
    return shown, list(range(len(shown))), axis(title, showticklabels=False)


def _bar_name(bar: _Members, is_staged: bool) -> str:
    if len(bar) > 1:
        return plain(f"group {bar[0].group}, ranks {spans([member.rank for member in bar])}")
    return plain(f"rank {bar[0].rank} on {bar[0].host}" + (f", stage {bar[0].stage}" if is_staged else ""))


def _groups_table(by_group: Sequence[_Members], stages: int) -> Table:
    rows = [
        [f"group {index}", spans([member.rank for member in group]),
         *([_stages_in_words(group, stages)] if stages > 1 else []),
         ", ".join(dict.fromkeys(member.host for member in group)), size(sum(member.part_bytes for member in group)),
         count(group[0].rows), duration(_mean("forward", group)), duration(_mean("exchange", group)),
         percent(_share_of(group))]
        for index, group in enumerate(by_group)
    ]  # fmt: skip
    staged = ["stages"] if stages > 1 else []
    header = ("group", "ranks", *staged, "hosts", "parts together", "rows", "forward", EXCHANGE.name, "of the forward")
    caption = "the groups; seconds are the mean of their ranks"
    return Table(caption, header, rows, is_folded=len(by_group) > _MOST_ROWS)


def _ranks_table(members: _Members, stages: int) -> Table:
    rows = [
        [f"rank {member.rank} on {member.host}", count(member.group), *([count(member.stage)] if stages > 1 else []),
         size(member.part_bytes), duration(member.forward), duration(member.computing), duration(member.exchange),
         percent(_share_of([member]))]
        for member in members
    ]  # fmt: skip
    staged = ["stage"] if stages > 1 else []
    header = ("rank", "group", *staged, "its part", "forward", "computing", EXCHANGE.name, "of the forward")
    return Table("each rank of the groups", header, rows, is_folded=True)


def _stages_in_words(group: _Members, stages: int) -> str:
    """Name the ranks of each stage: 0: ranks 0-1; 1: ranks 2-3."""
    held = (spans([member.rank for member in group if member.stage == stage]) for stage in range(stages))
    return "; ".join(f"{stage}: {'ranks' if '-' in ranks else 'rank'} {ranks}" for stage, ranks in enumerate(held))


def _share_of(members: _Members) -> float:
    """Return how much of the forward of these ranks was exchange and waiting."""
    forward = sum(member.forward for member in members)
    return sum(member.exchange for member in members) / forward if forward > 0 else math.nan


def _mean(name: str, members: _Members) -> float:
    return fmean(getattr(member, name) for member in members)
