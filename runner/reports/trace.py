"""Trace of every rank, span by span, with times: `NAME.run/trace.json`, for Perfetto and chrome://tracing.

Each rank is a process of the trace, with a thread for each of its own threads and one for its chunks; rank 0 also has
one for each tensor of Horovod. `runner.reports.trace_format` defines the format.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from runner.comm import Comm, wait
from runner.comm.horovod import HorovodComm
from runner.config.options import Config
from runner.core.atomic import atomic_file
from runner.core.errors import UsageError, shared
from runner.host.launch import horovod_timeline_at, warn
from runner.records.ledger import run_folder
from runner.reports.trace_format import TraceEvents, horovods_spans
from runner.telemetry.timeline import PHASES, Timeline

_SPAN = np.dtype([("phase", "u1"), ("began", "f8"), ("ended", "f8")])
_MOST_SPANS = 4_000_000  # of all ranks together: 400 MB, as much as a viewer opens
_ROUND_BYTES = 64 << 20  # what rank 0 holds of other ranks' spans
_MOST_TENSORS = 16
_THREAD_OF = {"read": "reader", "collect": "collector", "write": "writer"}  # all else is done by the main one
_THREADS = ("main", "reader", "collector", "writer", "chunks")


@dataclass
class Horovods:
    """Horovod's own timeline.

    Attributes:
        file: written by Horovod on rank 0; it has no name, and so disappears with this process.
        clock_shift: seconds since 1970 minus `time.perf_counter`, measured once Horovod has started.
        ended_early: whether it was stopped because it had become too long.
    """

    file: IO[bytes]
    clock_shift: float = 0.0
    ended_early: bool = False


@dataclass(frozen=True)
class _RankTrace:
    who: str
    began: float
    num_dropped: int
    num_bytes: int


@contextmanager
def horovods_timeline(config: Config) -> Iterator[Horovods | None]:
    """Yield Horovod's timeline, kept if Horovod starts inside; None where the user keeps it elsewhere.

    Raises:
        UsageError: there is no place for a trace; on every rank alike.
    """
    if config.output is None:
        raise shared(UsageError("--trace needs an --output: the trace is written beside it, as OUTPUT.run/trace.json"))
    file = tempfile.TemporaryFile()  # noqa: SIM115, it is closed when the trace is written
    with horovod_timeline_at(f"/proc/self/fd/{file.fileno()}") as is_ours:
        timeline_file = Horovods(file)
        yield timeline_file if is_ours else None
        timeline_file.clock_shift = time.time() - time.perf_counter()


def write_trace(config: Config, comm: Comm, timeline: Timeline, horovods: Horovods | None) -> None:
    """Gather the spans of all ranks and write them; every rank calls this, after the report.

    The output is complete by then: where the trace cannot be written, a warning is printed.
    """
    if isinstance(comm, HorovodComm) and horovods:
        horovods.ended_early = comm.stop_timeline()
    lines, error = _lines(comm, timeline, run_folder(str(config.output)), horovods), ""
    if comm.world.rank == 0:
        path = run_folder(str(config.output)) / "trace.json"
        try:
            with atomic_file(path) as file:
                file.writelines(f"{line}\n" for line in lines)
        except OSError as failure:
            error = f"--trace: {path}: {failure.strerror}"
    for _ in lines:  # on every rank: the others go on to send, whatever has become of the file
        pass
    if horovods:
        horovods.file.close()
    warn(comm.world, error)


def _lines(comm: Comm, timeline: Timeline, folder: Path, horovods: Horovods | None) -> Iterator[str]:
    """Yield the lines of the file, on rank 0; every rank iterates to the end."""
    spans, num_dropped = _pack(timeline, _MOST_SPANS // comm.world.world_size)
    ranks = comm.gather_all(_RankTrace(comm.world.who, timeline.began, num_dropped, spans.nbytes))
    events = TraceEvents(origin=min(rank.began for rank in ranks))
    pieces = _bring(comm, memoryview(spans.tobytes()), [rank.num_bytes for rank in ranks])
    if comm.world.rank:
        for _ in pieces:
            pass
        return
    yield '{"displayTimeUnit": "ms", "traceEvents": ['
    for rank, piece in pieces:
        yield from events.process(rank, ranks[rank].who, _THREADS)
        for phase, began, ended in np.frombuffer(piece, _SPAN).tolist():
            name = PHASES[phase]
            yield events.span(rank, _THREADS.index(_THREAD_OF.get(name, "main")), name, began, ended)
    yield from _chunks(events, folder / "ledger.jsonl")
    notes: dict[str, Any] = {f"spans of {r.who} past the limit": r.num_dropped for r in ranks if r.num_dropped}
    if horovods:
        notes |= {"Horovod": "its timeline ends early"} if horovods.ended_early else {}
        zero, tensors = horovods_spans(horovods.file)
        zero = timeline.at(zero - horovods.clock_shift)
        by_time = sorted(tensors, key=lambda name: -sum(ended - began for _, began, ended in tensors[name]))
        for thread, name in enumerate(by_time[:_MOST_TENSORS], len(_THREADS)):
            yield events.thread(0, thread, f"Horovod: {name}")
            for what, began, ended in tensors[name]:
                yield events.span(0, thread, what, zero + began, zero + ended)
        if len(by_time) > _MOST_TENSORS:
            notes["tensors of Horovod past the limit"] = len(by_time) - _MOST_TENSORS
    yield events.last()
    yield f'], "otherData": {json.dumps(notes)}}}'


def _pack(timeline: Timeline, most: int) -> tuple[np.ndarray, int]:
    """Return a rank's spans, the longest where there are too many, and the number of missing ones."""
    numbers = {phase: number for number, phase in enumerate(PHASES)}
    spans = np.array([(numbers[phase], began, ended) for phase, began, ended in timeline.spans()], _SPAN)
    missing = max(0, len(spans) - most)
    if missing:
        spans = spans[np.sort(np.argsort(spans["ended"] - spans["began"])[missing:])]
    return spans, timeline.num_dropped + missing


def _bring(comm: Comm, own: memoryview, sizes: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every rank's bytes on rank 0, a few ranks at a time; every rank iterates to the end."""
    first = 0
    while first < len(sizes):
        last = first + 1
        while last < len(sizes) and sum(sizes[first : last + 1]) <= _ROUND_BYTES:
            last += 1
        exchange = comm.start_round(b"", [own] if first <= comm.world.rank < last else [])
        wait(exchange.done)
        pieces = exchange.result()
        for rank in range(first, last):
            yield rank, pieces[rank][1]
        first = last


def _chunks(events: TraceEvents, ledger: Path) -> Iterator[str]:
    """Yield the chunks that this job has committed: a thread of each rank, and counters of rows."""
    free: dict[int, float] = {}
    done: dict[int, int] = {}
    for commit in sorted(_commits_of_last_job(ledger), key=lambda commit: commit["began"] + commit["seconds"]):
        rank, ended = commit["rank"], commit["began"] + commit["seconds"]
        began = max(commit["began"], free.get(rank, commit["began"]))  # on a GPU one may begin before another has ended
        free[rank] = ended
        done[rank] = done.get(rank, 0) + commit["stop"] - commit["start"]
        about = {"rows": f"{commit['start']} to {commit['stop'] - 1}", "bad rows": len(commit["bad"])}
        yield events.span(rank, _THREADS.index("chunks"), f"chunk {commit['chunk']}", began, ended, about)
        yield events.counter(rank, "rows done", ended, done[rank])
        yield events.counter(0, "rows done by all ranks", ended, sum(done.values()))


def _commits_of_last_job(ledger: Path) -> list[dict[str, Any]]:
    commits: list[dict[str, Any]] = []
    with ledger.open() as file:
        for record in map(json.loads, file):
            if "job" in record:
                commits = []
            elif "chunk" in record:
                commits.append(record)
    return commits
