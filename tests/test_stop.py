"""A job that is asked to stop, or runs out of time, keeps what is done, exits with 75, and goes on the next time."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import zoo
from launch import LAUNCHERS, environment, finish, predict_command, run, start
from reference import plain_loop, random_rows

NUM_ROWS, BATCH_SIZE = 1797, 32
SLOWLY = json.dumps({"value": 1e9, "flag": "none"})  # a model that takes 20 ms a batch, 57 batches
OPTIONS = ["--model", "zoo:DiesOnce", "--model-args", SLOWLY, "--data", "d.npy", "--output", "p.npy"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = np.concatenate([random_rows(NUM_ROWS, 8)] * 4)
    np.save(tmp_path / "d.npy", rows)
    np.save(tmp_path / "expected.npy", plain_loop(zoo.mlp(), rows, BATCH_SIZE))
    return tmp_path


def committed(folder: Path) -> list[int]:
    ledger = folder / "p.npy.run/ledger.jsonl"
    lines = ledger.read_text().splitlines()[1:] if ledger.exists() else []
    return [record["chunk"] for record in map(json.loads, lines) if "chunk" in record]


def assert_stopped(folder: Path, output: str, why: str) -> None:
    report = json.loads((folder / "p.npy.run/report.json").read_text())
    assert (report["status"], report["stopped_by"]) == ("stopped", why)
    assert 0 < report["remaining_rows"] < 4 * NUM_ROWS
    assert report["computed_rows"] + report["resumed_rows"] + report["remaining_rows"] == 4 * NUM_ROWS
    assert not (folder / "p.npy").exists()
    assert output.count(f"runner: stopped by {why}: ") == 1
    assert f"{report['remaining_rows']:,} are left" in output
    assert "Traceback" not in output


def assert_goes_on(folder: Path, launcher: str) -> None:
    before = committed(folder)
    outcome = run(predict_command(*OPTIONS, launcher=LAUNCHERS[launcher]), folder)
    assert outcome.code == 0, outcome.output
    assert (folder / "p.npy").read_bytes() == (folder / "expected.npy").read_bytes()
    chunks = committed(folder)
    assert chunks[: len(before)] == before
    assert len(chunks) == len(set(chunks))


@pytest.mark.parametrize(
    ("launcher", "number", "next_launcher"),
    [
        ("alone", signal.SIGTERM, "mpirun-2"),
        ("alone", signal.SIGINT, "alone"),
        ("mpirun-3", signal.SIGUSR1, "alone"),  # which mpirun passes on; TERM, to Open MPI 5's, kills the ranks
        ("horovodrun-2", signal.SIGUSR1, "mpirun-3"),
    ],
)
def test_signal_to_the_launcher(launcher: str, number: signal.Signals, next_launcher: str, folder: Path) -> None:
    process = start(predict_command(*OPTIONS, launcher=LAUNCHERS[launcher]), folder)
    wait_for_commits(folder)
    os.kill(process.pid, number)
    outcome = finish(process, timeout=30)
    assert outcome.code == 75, outcome.output
    assert_stopped(folder, outcome.output, "a signal")
    assert_goes_on(folder, next_launcher)


def test_a_second_interrupt_ends_at_once(folder: Path) -> None:
    rows = np.load(folder / "d.npy")
    rows[300, 0] = 1000.0
    np.save(folder / "d.npy", rows)
    hangs = ["--model", "zoo:HangsAtRow", "--model-args", json.dumps({"value": 1000.0, "how": "sleep"})]
    process = start(predict_command(*hangs, "--data", "d.npy", "--output", "p.npy"), folder)
    wait_for_commits(folder)
    time.sleep(1)  # now it is at the batch that does not end
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    outcome = finish(process, timeout=10)
    assert outcome.code == 75, outcome.output
    assert outcome.output.count("runner: error: interrupted at once. What is recorded is kept") == 1
    assert "Traceback" not in outcome.output
    assert len(committed(folder)) == 9  # all before that batch


@pytest.mark.parametrize("rank", [0, 1])
def test_signal_to_one_rank_stops_all(rank: int, folder: Path) -> None:
    process = start(predict_command(*OPTIONS, launcher=LAUNCHERS["mpirun-2"]), folder)
    wait_for_commits(folder)
    os.kill(pid_of_rank(rank, folder), signal.SIGTERM)
    outcome = finish(process, timeout=30)
    assert outcome.code == 75, outcome.output
    assert_stopped(folder, outcome.output, "a signal")


def test_time_limit_over_several_jobs(folder: Path) -> None:
    more = ["--model-args", json.dumps({"value": 1e9, "flag": "none", "seconds": 0.06})]  # 7 s of work for each rank
    done = []
    for limit in (7, 9, 12, 20, 40):  # longer and longer: a busy machine may take seconds to start
        command = predict_command(*OPTIONS, *more, "--time-limit", str(limit), launcher=LAUNCHERS["mpirun-2"])
        outcome = run(command, folder)
        report = json.loads((folder / "p.npy.run/report.json").read_text())
        assert report["wall_seconds"] < limit + 1  # from the start of the ranks; a launcher may take longer
        done.append(len(committed(folder)))
        if outcome.code != 75:
            break
        assert "stopped by the time limit" in outcome.output
    assert outcome.code == 0, outcome.output
    assert (folder / "p.npy").read_bytes() == (folder / "expected.npy").read_bytes()
    assert len(committed(folder)) == len(set(committed(folder))) == 4 * NUM_ROWS // BATCH_SIZE + 1
    assert any(0 < chunks < done[-1] for chunks in done), done


def test_the_schedulers_end_is_a_time_limit(folder: Path) -> None:
    env = environment(SLURM_JOB_END_TIME=str(int(time.time()) + 8))
    outcome = run(predict_command(*OPTIONS), folder, env=env)
    assert outcome.code == 75, outcome.output
    assert time.time() < int(env["SLURM_JOB_END_TIME"]) + 1
    assert_stopped(folder, outcome.output, "the time limit")


def wait_for_commits(folder: Path) -> None:
    give_up = time.monotonic() + 60
    while len(committed(folder)) < 5:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def pid_of_rank(rank: int, folder: Path) -> int:
    """The process of a rank of the job that works in this folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder and f"OMPI_COMM_WORLD_RANK={rank}" in (
                (entry / "environ").read_text().split("\0")
            ):
                return int(entry.name)
        except OSError:  # it has ended, or is not ours
            continue
    raise AssertionError(f"no rank {rank}")
