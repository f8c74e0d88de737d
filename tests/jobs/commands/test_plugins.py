"""Formats that another installed package adds are read, written and loaded like those that are built in."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from launch import HELPERS, TESTS, environment, mpirun, predict_command, predict_here, run

WEIGHTS = [[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]]
WORDS = ["--model", "./net.tinymodel", "--model-args", '{"plus": 3}', "--data", "d.tiny", "--output", "p.tiny"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savetxt(tmp_path / "d.tiny", np.random.default_rng(0).integers(-8, 9, (50, 3)))
    (tmp_path / "net.tinymodel").write_text(json.dumps(WEIGHTS))
    return tmp_path


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_source_a_sink_and_a_model_of_another_package(ranks: int, folder: Path) -> None:
    env = environment(PYTHONPATH=f"{HELPERS}:{TESTS / 'plugin'}")
    command = predict_command(*WORDS, "--batch-size", "4", launcher=mpirun(ranks) if ranks > 1 else [])
    outcome = run(command, folder, env=env)
    assert outcome.code == 0, outcome.output
    expected = np.loadtxt(folder / "d.tiny") @ np.array(WEIGHTS).T + 3
    assert np.array_equal(np.loadtxt(folder / "p.tiny"), expected)


def test_plan_and_inspect_of_a_model_of_another_package(folder: Path) -> None:
    env = environment(PYTHONPATH=f"{HELPERS}:{TESTS / 'plugin'}")
    command = [sys.executable, "-m", "runner"]
    outcome = run([*command, "plan", *WORDS, "--memory-per-rank", "1G"], folder, env=env)
    assert outcome.code == 0, outcome.output
    assert "the layers of ./net.tinymodel are not accessible" in outcome.output
    size = len(json.dumps(WEIGHTS))
    assert f"in its file {size}" in outcome.output, outcome.output
    outcome = run([*command, "inspect", *WORDS[1:4]], folder, env=env)
    assert (outcome.code, "kind     nn.Module, Linear" in outcome.output) == (0, True), outcome.output
    outcome = run([*command, "predict", *WORDS, "--offload", "disk"], folder, env=env)
    assert outcome.code == 64, outcome.output
    assert "--offload cannot split the layers of ./net.tinymodel" in outcome.output


def test_without_the_package_the_errors_say_what_there_is(folder: Path) -> None:
    outcome = predict_here(*WORDS, folder=folder)
    assert (outcome.code, "--output 'p.tiny' must end in .npy or .parquet" in outcome.output) == (64, True)
    outcome = predict_here(*WORDS[:4], "--data", "d.tiny", "--output", "p.npy", folder=folder)
    assert (outcome.code, "--data 'd.tiny' must end in .npy or .npz" in outcome.output) == (64, True)
    np.save(folder / "d.npy", np.zeros((3, 3), np.float32))
    outcome = predict_here(*WORDS[:2], "--data", "d.npy", "--output", "p.npy", folder=folder)
    assert outcome.code == 65
    assert "--model ./net.tinymodel" in outcome.output
