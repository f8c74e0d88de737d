"""Where the time of every rank goes: constant space, and figures that add up."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from launch import LAUNCHERS, mpirun, predict_command, run
from reference import random_rows

from runner.telemetry.efficiency import find_efficiency
from runner.telemetry.stats import RankStats
from runner.telemetry.timeline import MAIN_PHASES, OTHER_PHASES, PHASES, Strip, Timeline

JOB = ["--model", "zoo:OneIsSlow", "--data", "d.npy", "--output", "p.npy", "--batch-size", "10"]
ROW_BYTES = 40  # of zoo.OneIsSlow's predictions


@given(st.lists(st.floats(0, 30), min_size=1, max_size=40), st.integers(1, 50))
def test_a_strip_has_every_second_in_its_place(lengths: list[float], num_edges: int) -> None:
    strip, when = Strip(), 0.0
    for length in lengths:
        strip.add(when, when + length)  # without a gap
        when += length
    assert strip.total == pytest.approx(when)
    edges = np.linspace(0, max(when, 1.0), num_edges + 1)
    expected = np.diff(np.minimum(edges, when))
    # what is not at the edge of a bin may be a bin's width away
    width = strip._width
    assert strip.sampled(edges) == pytest.approx(expected, abs=width + 1e-9)
    assert strip.sampled(edges).sum() == pytest.approx(when, abs=width + 1e-9)


def test_a_strip_stays_as_small_as_it_was() -> None:
    strip = Strip()
    for second in range(0, 1_000_000, 1000):
        strip.add(second, second, 3)
    assert len(strip._bins) == 512
    assert strip.sampled(np.array([0, 500_000, 1_000_000])) == pytest.approx([1500, 1500], rel=0.01)


def test_rows_are_spread_over_the_time_of_their_batch() -> None:
    timeline = Timeline(10.0)
    timeline.count_batch(80, 8.0)
    rows = timeline.sampled(np.array([0.0, 2, 4, 6, 8, 12]))["rows"]
    assert rows == pytest.approx([0, 20, 20, 20, 20], abs=1)


def test_the_main_thread_does_one_thing_at_a_time() -> None:
    before = time.perf_counter()
    timeline, began = Timeline(2.0), time.perf_counter()
    for phase in random.Random(0).choices(MAIN_PHASES, k=200):
        timeline.turn(phase)
        time.sleep(0.0005)
    ended = time.perf_counter()
    timeline.end()
    longest = 2.0 + time.perf_counter() - before
    assert 2.0 + ended - began <= sum(timeline.seconds()[phase] for phase in MAIN_PHASES) <= longest
    shares = timeline.sampled(np.linspace(0, timeline.now(), 11))
    assert np.sum([shares[phase].astype(int) for phase in MAIN_PHASES if phase in shares], axis=0) == pytest.approx(
        100, abs=len(MAIN_PHASES)
    )


def test_ranks_count_from_the_same_moment() -> None:
    before = time.perf_counter()
    root, other = Timeline(5.0), Timeline(3.5)
    other.align(root.now())
    times = (root.now(), other.now(), root.now())
    late = time.perf_counter() - before  # which is next to nothing, but on a busy machine
    assert times[0] - late <= times[1] <= times[2] + late
    assert root.began == 0.0
    assert 1.5 - late <= other.began <= 1.5 + late


def test_latencies_are_counted_by_size() -> None:
    timeline = Timeline(0.0)
    for seconds in (0.0, 1e-6, 0.0105, 0.0115, 1e9):
        timeline.count_batch(1, seconds)
    assert {index: count for index, count in enumerate(timeline.latencies) if count} == {0: 2, 40: 2, 89: 1}
    assert (timeline.batches, timeline.slowest_seconds) == (5, 1e9)


def stats(rank: int, rows: int, **seconds: float) -> RankStats:
    return RankStats(rank, "node1", "cpu", 1, rows=rows, seconds=dict.fromkeys((*PHASES, "wait"), 0.0) | seconds)


def test_losses_add_up_to_the_wall() -> None:
    ranks = [
        stats(0, 600, launch=1, model=1, forward=6, data_wait=1, backpressure=1, sync_wait=1, finish=1),
        stats(1, 400, launch=1, model=1, forward=4, data_wait=1, sync_wait=4, finish=1),
    ]
    found = find_efficiency(ranks, rows_per_second=100.0, loop_seconds=9.0, num_chunks=3, alone=None)
    assert found is not None
    assert found.ideal_seconds == 5.0
    assert found.losses == {
        "start-up": 2.0,
        "baseline": 0.0,
        "slower together": 0.0,
        "reading": 1.0,
        "imbalance": 1.5,  # of the second rank, 3 s until the first had done its share
        "collect": 1.5,
        "finish": 1.0,
    }
    assert found.ideal_seconds + sum(found.losses.values()) == 12.0
    assert found.rank_rows_per_second == pytest.approx(1000 / 12)
    assert (found.speedup, found.efficiency) == (pytest.approx(1.2), pytest.approx(0.6))
    # more ranks than chunks are of no use
    assert [(p.ranks, p.wall_seconds) for p in found.predicted] == [(1, 21), (2, 12), (4, 9), (8, 9)]


def test_losses_against_one_rank_alone() -> None:
    ranks = [stats(rank, 500, launch=1, forward=10) for rank in range(2)]
    found = find_efficiency(ranks, rows_per_second=100.0, loop_seconds=10.0, num_chunks=10, alone=(62.5, 100.0))
    assert found is not None
    assert (found.speedup, found.efficiency) == (1.6, 0.8)
    assert (found.ideal_seconds, found.losses["slower together"]) == (5.0, 5.0)


@pytest.mark.parametrize("launcher", ["alone", "mpirun-3"])
def test_the_figures_of_a_job_add_up(launcher: str, tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(3001, 8))
    slow = ["--model-args", json.dumps({"rank": 0, "seconds": 0.01, "factor": 3}), "--chunk-size", "50"]
    outcome = run(predict_command(*JOB, *slow, launcher=LAUNCHERS[launcher]), tmp_path)
    assert outcome.code == 0, outcome.output
    report = json.loads((tmp_path / "p.npy.run/report.json").read_text())
    ranks, wall = report["ranks"], report["wall_seconds"]
    for rank in ranks:
        # a rank may be through with its last phase a little before or after rank 0
        assert sum(rank["seconds"][phase] for phase in MAIN_PHASES) + rank["began"] == pytest.approx(wall, rel=0.05)
        assert rank["seconds"]["forward"] >= rank["batches"] * 0.01
    assert sum(rank["rows"] for rank in ranks) == report["computed_rows"] == 3001
    assert sum(rank["output_bytes"] for rank in ranks) == 3001 * ROW_BYTES
    assert (tmp_path / "p.npy").stat().st_size == 3001 * ROW_BYTES + 128
    assert sum(rank["batches"] for rank in ranks) == sum(report["latencies"]) == 301
    found = report["efficiency"]
    assert found["ideal_seconds"] + sum(found["losses"].values()) == pytest.approx(wall, rel=0.05)
    if launcher == "mpirun-3":
        assert max(found["losses"], key=found["losses"].get) in ("imbalance", "start-up")
        assert found["losses"]["imbalance"] > 0.5 * 100 * 0.02 * 2 / 3  # rank 0 takes three times as long
    timelines = json.loads((tmp_path / "p.npy.run/timeline.json").read_text())
    bin_seconds = (timelines["ended"] - timelines["began"]) / timelines["bins"]
    assert sum(timelines["rows"]) == pytest.approx(3001, abs=0.05 * timelines["bins"] + 1)  # each is rounded
    assert set(timelines["main"]) | set(timelines["others"]) == set(timelines["phases"])
    for phase in ("forward", *OTHER_PHASES):
        for rank, shares in zip(ranks, timelines["phases"].get(phase, []), strict=False):
            assert sum(shares) / 100 * bin_seconds == pytest.approx(rank["seconds"][phase], rel=0.05, abs=0.3)
    commits = [json.loads(line) for line in (tmp_path / "p.npy.run/ledger.jsonl").read_text().splitlines()[2:]]
    for commit in commits:
        assert report["startup_seconds"] - 0.5 < commit["began"] < wall
        assert commit["began"] + commit["seconds"] < wall


def test_one_rank_alone_is_measured_first(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(1500, 8))
    slow = ["--model-args", json.dumps({"rank": 1, "seconds": 0.03, "factor": 4}), "--chunk-size", "50"]
    assert run(predict_command(*JOB, *slow, "--baseline", launcher=mpirun(2)), tmp_path).code == 0
    report = json.loads((tmp_path / "p.npy.run/report.json").read_text())
    found = report["efficiency"]
    assert found["is_measured"]
    assert 80 < found["rank_rows_per_second"] < 334  # 10 rows in something over 0.03 s
    assert found["efficiency"] < 0.6  # as the other rank takes four times as long
    assert found["losses"]["slower together"] > 0.3 * found["ideal_seconds"]
    assert min(rank["seconds"]["baseline"] for rank in report["ranks"]) > 1
