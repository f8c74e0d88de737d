"""In words, for whom and for what the ranks of a group wait. Pure."""

from collections.abc import Sequence
from statistics import fmean

from runner.comm.groups import default_micro_batches
from runner.reports.pages.members import Member, share_of
from runner.reports.pages.record import Record
from runner.reports.pages.values import count, duration, number, percent

_UNEVEN = 0.1  # of the forward: so much more computing than another's is worth a word


def bubbles(record: Record, members: Sequence[Member], stages: int) -> str:
    """The share of a pipeline's time that waits would take if nothing else did."""
    said, rows = number(record.config.get("micro-batches")), number(record.config.get("batch-size"))
    micro_batches = int(said) if said >= 1 else default_micro_batches(stages)
    arguments = record.config.get("model-args")
    if isinstance(arguments, dict) and arguments.get("max_new_tokens"):  # a cache of a batch's tokens cannot be cut
        micro_batches = 1
    if rows >= 1:
        micro_batches = min(micro_batches, int(rows))
    ideal = (stages - 1) / (micro_batches + stages - 1)
    parts = f"{count(micro_batches)} micro-batches" if micro_batches > 1 else "1 micro-batch"
    return (
        f"With {parts} in a batch, a pipeline of {stages} stages is idle for {percent(ideal)} of its time at best, the "
        "bubbles of GPipe: (P - 1) / (N + P - 1) for P stages and N micro-batches (Huang et al., 2019). The "
        f"{percent(share_of(members))} above are these bubbles, all transfers, and waits for stages that take longer."
    )


def who_is_waited_for(members: Sequence[Member], by_group: Sequence[Sequence[Member]], stages: int) -> str:
    """Who computes for much longer than the others, which so wait for it; empty where nobody does."""
    if stages > 1:
        by_stage = [[member for member in members if member.stage == stage] for stage in range(stages)]
        computing = [fmean(member.computing for member in of_stage) for of_stage in by_stage]
        most, least = (pick(range(stages), key=lambda stage: computing[stage]) for pick in (max, min))
        if not computing[most] - computing[least] > _UNEVEN * fmean(member.forward for member in members):
            return ""
        return (
            f"Stage {most} computed for longest, {duration(computing[most])}, and stage {least} for "
            f"{duration(computing[least])}: the others wait for stage {most}. --split-points can give it fewer layers."
        )
    found = max(by_group, key=lambda group: max(m.computing for m in group) - min(m.computing for m in group))
    slow, idle = (pick(found, key=lambda member: member.computing) for pick in (max, min))
    if not slow.computing - idle.computing > _UNEVEN * idle.forward:
        return ""
    where = f"In group {slow.group}, rank" if len(by_group) > 1 else "Rank"
    why = "It has post-processing to do, too, or it" if slow is found[0] else "It"
    return (
        f"{where} {slow.rank} on {slow.host} computed for longest, {duration(slow.computing)}, and rank {idle.rank} "
        f"for {duration(idle.computing)}: the others wait for rank {slow.rank}. {why} or its host is slower."
    )
