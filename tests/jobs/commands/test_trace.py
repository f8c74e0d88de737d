"""`--trace`: every span of every rank in one file, which a viewer of Chrome's format can open."""

import json
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launch import LAUNCHERS, PATIENCE, await_chunks, environment, finish, predict_command, run, start

import runner
from runner.core.errors import UsageError

NUM_ROWS, BATCH_SIZE = 1797, 32
JOB = ["--model", "zoo:DiesOnce", "--model-args", '{"value": 1e9, "flag": "none", "seconds": 0.01}', "--data", "d.npy"]
THREADS = ["main", "reader", "collector", "writer", "chunks"]
SLACK, MOST_SHIFT = 20_000, 500_000  # microseconds
Event = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "d.npy", np.random.default_rng(0).normal(size=(NUM_ROWS, 8)).astype(np.float32))
    return tmp_path


def traced(folder: Path, launcher: str, *more: str, **env: str) -> tuple[list[Event], dict[str, Any]]:
    """The events of a job's trace, and its report."""
    command = predict_command(*JOB, "--output", "p.npy", "--trace", *more, launcher=LAUNCHERS[launcher])
    outcome = run(command, folder, env=environment(**env))
    assert outcome.code == 0, outcome.output
    assert "warning" not in outcome.output
    trace = json.loads((folder / "p.npy.run/trace.json").read_text())
    assert trace["otherData"] == {}  # nothing was left out
    return trace["traceEvents"], json.loads((folder / "p.npy.run/report.json").read_text())


def spans_by_thread(events: list[Event]) -> dict[tuple[str, str], list[Event]]:
    """By the names of process and thread; in order."""
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert len({tid for _, tid in threads}) == len(threads), "a thread's number is its own"
    found: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            found[processes[event["pid"]], threads[event["pid"], event["tid"]]].append(event)
    for spans in found.values():
        spans.sort(key=lambda span: (span["ts"], -span["dur"]))
    return found


def end(span: Event) -> float:
    return float(span["ts"] + span["dur"])


def assert_nested(spans: list[Event]) -> None:
    """Each lies beside or inside of the others, to a nanosecond."""
    around: list[float] = []
    for span in spans:
        assert span["ts"] >= 0
        assert span["dur"] >= 0
        while around and around[-1] <= span["ts"] + 1e-3:
            around.pop()
        assert not around or end(span) <= around[-1] + 1e-3, span
        around.append(end(span))


@pytest.mark.parametrize("launcher", ["alone", "mpirun-3", "horovodrun-2"])
def test_every_rank_is_there_and_adds_up(launcher: str, folder: Path) -> None:
    events, report = traced(folder, launcher)
    assert {event["ph"] for event in events} == {"M", "X", "C"}
    found = spans_by_thread(events)
    size = len(report["ranks"])
    for spans in found.values():
        assert_nested(spans)
    for rank in report["ranks"]:
        who = f"rank {rank['rank']} of {size} on {rank['host']}"
        sums: dict[str, float] = defaultdict(float)
        for thread in THREADS[:4]:
            for span in found[who, thread]:
                sums[span["name"]] += span["dur"] / 1e6
        assert sums == pytest.approx({n: s for n, s in rank["seconds"].items() if s and n != "wait"}, rel=0.02)
        chunks = found[who, "chunks"]
        assert len(chunks) == rank["chunks"]
        main = found[who, "main"]
        forward = [span for span in main if span["name"] == "forward"]
        assert forward[0]["ts"] - 50_000 < chunks[0]["ts"] + chunks[0]["dur"], "the ledger's axis is the trace's"
        assert end(chunks[-1]) < end(main[-1])
    assert min(span["ts"] for spans in found.values() for span in spans) == 0
    done = [event["args"]["rows"] for event in events if event["name"] == "rows done by all ranks"]
    assert done == sorted(done)
    assert done[-1] == NUM_ROWS
    assert len(done) == -(-NUM_ROWS // BATCH_SIZE)

    who = f"rank 0 of {size} on {report['ranks'][0]['host']}"
    horovods = found[who, "Horovod: allgather.collect"]
    assert bool(horovods) == (size > 1)
    if size > 1:
        # both clocks are read when Horovod starts, which a busy machine may interrupt: then all its spans are shifted
        shifts = range(-MOST_SHIFT, MOST_SHIFT + 1, SLACK)
        assert any(all(has_its_round(ours, horovods, shift) for ours in found[who, "collector"]) for shift in shifts)


def has_its_round(ours: Event, horovods: list[Event], shift: int) -> bool:
    """Whether a round that carried predictions is one of ours, and begins and ends inside of it."""
    begin, stop = ours["ts"] + shift - SLACK, end(ours) + shift + SLACK
    return {"ALLGATHER", "MPI_ALLGATHER"} <= {s["name"] for s in horovods if begin < s["ts"] and end(s) < stop}


def test_without_horovod_and_stopped_early(folder: Path) -> None:
    """And a second job of the same output, with Horovod's own timeline where the user has asked for it."""
    slowly = ["--model-args", '{"value": 1e9, "flag": "none", "seconds": 0.4, "slowly": "slowly"}']
    (folder / "slowly").touch()
    command = predict_command(*JOB, *slowly, "--output", "p.npy", "--trace", launcher=LAUNCHERS["mpirun-2"])
    process = start([*command, "--comm", "mpi"], folder)
    await_chunks(folder / "p.npy.run", 4, process)
    process.send_signal(signal.SIGUSR1)
    outcome = finish(process, PATIENCE)
    (folder / "slowly").unlink()
    assert outcome.code == 75, outcome.output
    found = spans_by_thread(json.loads((folder / "p.npy.run/trace.json").read_text())["traceEvents"])
    before = sum(len(spans) for (_, thread), spans in found.items() if thread == "chunks")
    assert before
    assert not any(thread.startswith("Horovod") for _, thread in found)

    events, report = traced(folder, "mpirun-2", *slowly, HOROVOD_TIMELINE="mine.json")
    found = spans_by_thread(events)
    assert sum(len(spans) for (_, thread), spans in found.items() if thread == "chunks") == 57 - before
    assert report["resumed_rows"] > 0
    assert not any(thread.startswith("Horovod") for _, thread in found)
    assert any(event.get("name") == "MPI_ALLGATHER" for event in json.loads((folder / "mine.json").read_text()))


def test_a_trace_that_cannot_be_written_costs_no_job(folder: Path) -> None:
    run_folder = folder / "p.npy.run"
    run_folder.mkdir()
    (run_folder / "trace.json.partial").symlink_to("/dev/full")
    command = predict_command(*JOB, "--output", "p.npy", "--trace", launcher=LAUNCHERS["mpirun-2"])
    (folder / "p.npy.partial").write_bytes(b"")  # what an unfinished run has: its folder is not cleared
    outcome = run(command, folder)
    assert outcome.code == 0, outcome.output
    assert "runner: warning: --trace: p.npy.run/trace.json: No space left on device" in outcome.output
    assert (folder / "p.npy").exists()
    assert not (run_folder / "trace.json").exists()


def test_no_place_for_a_trace() -> None:
    with pytest.raises(UsageError, match="--trace needs an --output"):
        runner.predict(model="zoo:mlp", data=np.zeros((1, 8), np.float32), trace=True)
