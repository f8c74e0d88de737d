"""The benchmark itself: a small run of it, with the systems that need no environment of their own."""

import json
import sys
from pathlib import Path

import pytest
from launch import TESTS, environment, run


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("workload", "fraction"), [("tabular", 0.02), ("sequences", 0.02)])
def test_a_small_run(workload: str, fraction: float, tmp_path: Path) -> None:
    systems = ["runner, allgather", "runner, direct, dynamic", "mpi4py + memmap", "torchrun + gather"]
    command = [sys.executable, TESTS.parent / "scripts/bench/bench.py", "--workloads", workload, "--repeats", "1"]
    command += ["--fraction", str(fraction), "--systems", *systems]
    outcome = run(command, tmp_path, timeout=190, env=environment())
    assert outcome.code == 0, outcome.output
    (results,) = json.loads((tmp_path / "bench/bench.json").read_text()).values()
    assert set(results) == {"limit", *systems}, outcome.output
    for system in systems:
        assert results[system][0]["is_right"], system
        assert results[system][0]["wall_seconds"] > results[system][0]["startup_seconds"] > 0, system
        assert results[system][0]["peak_rss_bytes"] > 100e6, system
    assert results["limit"][0]["rows_per_second"] > 0
    assert (tmp_path / "bench/bench.png").stat().st_size > 10_000
    assert outcome.output.count("| yes |") >= len(systems)
