"""The text of a plan: the known facts, a table of rank counts, the assumptions, and the risks."""

import json
from dataclasses import asdict

from runner.chunks.commit import Commit
from runner.commands.plan.estimate import (
    ALLGATHER,
    LAUNCH_SECONDS,
    NETWORK,
    STORAGE,
    Pace,
    Work,
    efficiency,
    times,
)
from runner.commands.plan.fitting import Fitting
from runner.commands.plan.layout import Layout, Memory
from runner.commands.plan.risks import PlannedJob, find_risks
from runner.commands.plan.trial import Trial, lacks_gpu
from runner.commands.plan.words import in_columns, in_parts, in_table
from runner.config.collect_modes import COLLECT_MODES
from runner.config.options import Config
from runner.core.imports import name_of
from runner.core.text import byte_size, duration, plural, rate
from runner.data.rows import RowType, describe_type
from runner.sources import Source

_ENOUGH = 0.1  # of the time; ranks that save less are not worth it


def render_plan(
    job: PlannedJob,
    source: Source,
    trial: Trial,
    pace: Pace | None,
    num_resumed: int,
    report: str | None,
    fitting: Fitting | None,
) -> str:
    """Return the complete plan as text."""
    facts = {
        "data": describe_data(job.config, source),
        "batches": describe_batches(trial.grid.num_rows, trial.grid.batch_size),
        "chunks": _chunks(trial),
        "resumed": _resumed(job, num_resumed),
        "ranks": f"{describe_ranks(job.layout)}: {_shares(job)}",
        "model": fitting.model() if fitting else "",
        "output": _output(job, trial),
        "memory": describe_memory(job.layout, job.memory),
        "speed": _speed(job, trial, pace, report),
        "time": _time(job),
    }
    parts = [in_columns(facts)]
    if pace and job.work.rows:
        parts += [_table(job, pace), _assumed(job, pace, report)]
    return in_parts([*parts, *(fitting.lines() if fitting else []), [f"! {risk}" for risk in find_risks(job)]])


def describe_data(config: Config, source: Source) -> str:
    """Describe the number of rows, their size and their type."""
    about = "" if isinstance(source.row_type, RowType) and not source.row_type.is_ragged else "about "
    each = f"{about}{plural(source.row_bytes, 'byte')} ({describe_type(source.row_type)})"
    return f"{plural(source.num_rows, 'row')} of {each} in {name_of(config.data)}"


def describe_batches(num_rows: int, batch_size: int) -> str:
    """Describe the number of batches and their rows."""
    return f"{-(-num_rows // batch_size):,} of {plural(batch_size, 'row')}"


def _chunks(trial: Trial) -> str:
    grid = trial.grid
    files = f", {grid.shard_chunks:,} in each file of the output" if grid.shard_chunks else ""
    return f"{grid.num_chunks:,} of {plural(grid.chunk_size, 'row')}{files}"


def _resumed(job: PlannedJob, num_resumed: int) -> str:
    if not num_resumed:
        return ""
    rows = job.grid.num_rows - job.work.rows
    return f"{plural(num_resumed, 'chunk')}, {plural(rows, 'row')} of an unfinished run, which the job resumes"


def describe_ranks(layout: Layout) -> str:
    """Describe the ranks, their nodes, and the replicas that they hold."""
    nodes = f"{plural(layout.nodes, 'node')} of {layout.together:,}"
    threads = f"{plural(layout.threads, 'CPU thread')} per rank"
    replicas = f", {plural(layout.replicas, 'replica')} of {layout.model_parallel} ranks"
    return f"{layout.ranks:,} on {nodes}, {threads}{replicas if layout.model_parallel > 1 else ''}"


def _shares(job: PlannedJob) -> str:
    layout = job.layout
    work = job.work
    chunks = work.per_rank(layout.replicas, work.item_chunks)
    least = f"{min(chunks):,} to " if min(chunks) < max(chunks) else ""
    idle = sum(not count for count in chunks)
    who, what = "on average" if work.is_dynamic else "each", "replicas" if layout.model_parallel > 1 else "ranks"
    return f"{least}{plural(max(chunks), 'chunk')} {who}{f', {idle:,} {what} idle' if idle else ''}"


def _output(job: PlannedJob, trial: Trial) -> str:
    line = (
        len(json.dumps(asdict(Commit(10**4, 10**7, 10**7, "xxh3:" + 32 * "0", "xxh3:" + 32 * "0", 100, 1.234567)))) + 1
    )
    records = f"{byte_size(line * trial.grid.num_chunks)} of records"
    twice = ", twice until the output is complete" if job.is_spooled else ""
    about = "" if isinstance(trial.row_type, RowType) else "about "
    free = f"; {byte_size(job.free_bytes)} are free" if job.free_bytes is not None else ""
    kind = f"{describe_type(trial.row_type)} per row"
    return f"{about}{plural(trial.output_bytes, 'byte')} of predictions ({kind}){twice}, and {records}{free}"


def describe_memory(layout: Layout, memory: Memory) -> str:
    """Describe the memory of ranks and of a node, and the source of these numbers."""
    computed = f", {byte_size(memory.computed)} of it computed" if memory.computed else ""
    others = f"; another rank {byte_size(memory.other)}" if layout.ranks > 1 else ""
    node = f"; a node {byte_size(memory.node)} of {byte_size(layout.node_bytes)}"
    return f"rank 0 at most {byte_size(memory.rank_0)} ({memory.how}{computed}){others}{node}"


def _speed(job: PlannedJob, trial: Trial, pace: Pace | None, report: str | None) -> str:
    if pace is None and not trial.grid.num_rows:
        return "there are no rows"
    if pace is None:
        return (
            "cannot be measured: the job is for GPUs, and this node has none. Run it with --limit on one, and give "
            "--report OUTPUT.run/report.json"
            if lacks_gpu(job.config)
            else "cannot be measured: no row was computed"
        )
    if report:
        return f"{describe_speed(pace)}, by {report}"
    what = "the complete model on one rank" if job.layout.model_parallel > 1 else "one rank"
    return (
        f"{rate(pace.rows_per_second)} of {what}, measured on {plural(trial.rows, 'row')} with "
        f"{plural(trial.threads, 'thread')}"
    )


def describe_speed(pace: Pace) -> str:
    """Describe the speed of one rank, or of one replica."""
    who = "one rank" if pace.model_parallel == 1 else f"one replica of {pace.model_parallel} ranks"
    return f"{rate(pace.rows_per_second)} of {who}"


def _time(job: PlannedJob) -> str:
    if job.times is None or not job.work.rows:
        return ""
    total, startup, loop, finish = map(duration, (job.times.total, job.times.startup, job.times.loop, job.times.finish))
    end = f", {finish} to write the output from its spool" if job.times.finish else ""
    return f"{total}: {startup} start-up, {loop} of chunks{end}"


def _table(job: PlannedJob, pace: Pace) -> list[str]:
    replicas, group_size = job.layout.replicas, job.layout.model_parallel
    counts = sorted({count for count in (replicas // 2, replicas, 2 * replicas, 4 * replicas) if count})
    rows = [("ranks", *["replicas"] * (group_size > 1), "nodes", "seconds", "node hours", "efficiency", "longest part")]
    before = 0.0
    for count in counts:
        estimate, nodes = times(job.work, pace, count, group_size), -(-count * group_size // job.layout.ranks_per_node)
        useless = " (no gain)" if before and estimate.total > (1 - _ENOUGH) * before else ""
        before = estimate.total
        rows.append(
            (
                f"{count * group_size:,}",
                *[f"{count:,}"] * (group_size > 1),
                f"{nodes:,}",
                f"{estimate.total:,.1f}",
                f"{nodes * estimate.total / 3600:,.3f}",
                f"{efficiency(job.work, pace, count, group_size):.0%}",
                estimate.most + useless,
            )
        )
    return in_table(rows)


def _assumed(job: PlannedJob, pace: Pace, report: str | None) -> list[str]:
    work: Work = job.work
    notes = [*["nodes as fast as this one, now"] * (not report), "no contention between ranks"]
    group_size = job.layout.model_parallel
    if group_size > 1 and pace.model_parallel == 1:
        notes.append(
            f"the {group_size} ranks of a replica are together as fast as one rank with the complete model; --report "
            f"of a job with --model-parallel {group_size} gives the measured speed"
        )
    elif group_size != pace.model_parallel:
        notes.append(f"a replica of {group_size} is as fast as one of {pace.model_parallel}")
    if pace.is_of_a_job:
        notes.append("start-up as in the job of the report")
    else:
        notes.append(f"start-up as here, plus {LAUNCH_SECONDS:.0f} s for MPI with several ranks")
        notes.append(f"weights at {byte_size(NETWORK)}/s")
    mode = COLLECT_MODES[work.collect]
    if mode.moves_rows and not mode.to_root_only:
        notes.append(f"predictions at {byte_size(ALLGATHER)}/s by ranks, at most {byte_size(NETWORK)}/s")
    elif mode.moves_rows:
        notes.append(f"predictions at {byte_size(NETWORK)}/s")
    notes.append(f"storage at {byte_size(STORAGE)}/s")
    if work.format_speed:
        notes.append(f"the output from its spool at {byte_size(work.format_speed)}/s")
    return [f"assumed: {'; '.join(notes)}"]
