"""The benchmark itself: a small run of it, with the systems that need no environment of their own."""

import json
import sys
from pathlib import Path

import pytest
from launch import ROOT, environment, run


@pytest.mark.parametrize(
    ("workload", "fraction", "systems"),
    [
        ("tabular", 0.02, ["runner, direct, dynamic", "mpi4py + memmap", "torchrun + gather"]),
        ("sequences", 0.005, ["runner, allgather"]),
    ],
    ids=["tabular", "sequences"],
)
def test_a_small_run(workload: str, fraction: float, systems: list[str], tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "scripts/bench/bench.py", "--workloads", workload, "--repeats", "1"]
    command += ["--fraction", str(fraction), "--systems", *systems]
    outcome = run(command, tmp_path, timeout=280, env=environment())
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
