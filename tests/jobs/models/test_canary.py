"""A rank that computes wrong is named before it does harm; what it has done is taken back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from launch import LAUNCHERS, Outcome, predict_command, predict_here, run, run_here
from reference import plain_loop, random_rows

NUM_ROWS, BATCH_SIZE = 997, 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "d.npy", random_rows(NUM_ROWS, 8))
    return tmp_path


def predict(folder: Path, launcher: str, model: str, *options: str, **arguments: object) -> Outcome:
    paths = ["--data", "d.npy", "--output", "p.npy", "--batch-size", str(BATCH_SIZE)]
    command = [*paths, "--model", model, "--model-args", json.dumps(arguments), *options]
    if launcher == "here":
        return predict_here(*command, folder=folder)
    return run(predict_command(*command, launcher=LAUNCHERS[launcher]), folder)


def is_right(folder: Path) -> bool:
    expected = plain_loop(zoo.mlp(), np.load(folder / "d.npy"), BATCH_SIZE)
    return np.load(folder / "p.npy").tobytes() == expected.tobytes()


def canary(folder: Path) -> str:
    return str(json.loads((folder / "p.npy.run/report.json").read_text())["canary"])


@pytest.mark.parametrize(
    ("launcher", "rank", "off"),
    [("mpirun-2", 1, float("nan")), ("mpirun-3", 0, 1.0), ("mpirun-3", 2, float("nan")), ("horovodrun-2", 1, 1.0)],
)
def test_a_rank_that_deviates_is_named(launcher: str, rank: int, off: float, folder: Path) -> None:
    outcome = predict(folder, launcher, "zoo:Deviates", rank=rank, off=off)
    assert outcome.code == 70, outcome.output
    assert outcome.output.count("runner: error") == 1
    assert f"the ranks do not agree on row 0: rank {rank} of {launcher[-1]} on " in outcome.output
    assert not list(folder.glob("p.npy*"))


def test_the_last_bits_are_a_warning(folder: Path) -> None:
    outcome = predict(folder, "mpirun-2", "zoo:Deviates", rank=1, off=1e-6)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("runner: warning: the ranks' answers differ by up to 1e-06") == 1
    assert canary(folder).startswith("the ranks' answers differ by up to 1e-06")


def test_equal_ranks(folder: Path) -> None:
    assert predict(folder, "mpirun-3", "zoo:mlp").code == 0
    assert canary(folder) == "equal"
    assert is_right(folder)


@pytest.mark.parametrize("launcher", ["here", "mpirun-2"])
def test_a_model_of_chance_is_refused_unless_it_is_meant(launcher: str, folder: Path) -> None:
    outcome = predict(folder, launcher, "zoo:Chance")
    assert outcome.code == 65, outcome.output
    assert outcome.output.count("error: the model gives a different answer to row 0 when it is called again") == 1
    assert not list(folder.glob("p.npy*"))
    outcome = predict(folder, launcher, "zoo:Chance", "--stateful", "keep")
    assert outcome.code == 0, outcome.output
    assert "warning: the model gives a different answer to row 0 at each call" in outcome.output


def test_a_state_is_reset_before_each_batch(folder: Path) -> None:
    """As Silero's voice detector has one."""
    outcome = predict(folder, "here", "zoo:Remembers")
    assert outcome.code == 65, outcome.output
    assert "--stateful reset calls its reset_states() before each batch" in outcome.output
    found = []
    for launcher in ("here", "mpirun-3"):
        outcome = predict(folder, launcher, "zoo:Remembers", "--stateful", "reset", "--overwrite")
        assert outcome.code == 0, outcome.output
        found.append((folder / "p.npy").read_bytes())
    assert found[0] == found[1]
    model, rows = zoo.Remembers(), torch.from_numpy(np.load(folder / "d.npy"))
    with torch.inference_mode():
        expected = []
        for batch in rows.split(BATCH_SIZE):
            model.reset_states()
            expected.append(model(batch))
    assert np.load(folder / "p.npy").tobytes() == torch.cat(expected).numpy().tobytes()


def test_nothing_to_reset(folder: Path) -> None:
    outcome = predict(folder, "here", "zoo:mlp", "--stateful", "reset")
    assert outcome.code == 64
    assert "the model has none of the methods reset_states, reset_state, reset" in outcome.output


@pytest.mark.parametrize(("launcher", "rank"), [("mpirun-3", 2), ("mpirun-3", 0), ("alone", 0)])
def test_a_rank_that_goes_wrong_on_the_way(launcher: str, rank: int, folder: Path) -> None:
    options = ["--time-limit", "140"]
    (folder / "flag").touch()  # as long as it is there, the rank computes wrong from its 20th call on
    arguments = {"rank": rank, "off": 1.0, "after": 20, "flag": "flag"}
    outcome = predict(folder, launcher, "zoo:Deviates", *options, **arguments)
    assert outcome.code == 70, outcome.output
    assert "the answer to the canary is no longer what it was at the start on rank" in outcome.output
    assert outcome.output.count("runner: error") == 1
    assert not (folder / "p.npy").exists()
    (folder / "flag").unlink()
    outcome = predict(folder, "mpirun-2" if rank else "here", "zoo:Deviates", **arguments)
    assert outcome.code == 0, outcome.output
    assert is_right(folder)
    report = json.loads((folder / "p.npy.run/report.json").read_text())
    ranks = int(launcher[-1]) if launcher != "alone" else 1
    assert abs(report["computed_rows"] - NUM_ROWS / ranks) <= BATCH_SIZE  # those of the bad rank alone
    assert run_here("verify", "p.npy", folder=folder).code == 0
