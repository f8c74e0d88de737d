"""On a GPU: copies beside the computing change no byte."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from launch import LAUNCHERS, predict_command, run
from reference import random_rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def plain_loop_on_gpu(model: torch.nn.Module, rows: np.ndarray, batch_size: int) -> np.ndarray:
    """One batch after another, each copied there and back before the next."""
    model = copy.deepcopy(model).eval().cuda()
    with torch.inference_mode():
        batches = torch.from_numpy(rows).split(batch_size)
        return np.concatenate([model(batch.cuda()).cpu().numpy() for batch in batches])


@pytest.mark.parametrize("launcher", ["alone", "mpirun-2"])
@pytest.mark.parametrize("batch_size", [1, 32, 1000])
def test_bytes_equal_a_plain_loop(batch_size: int, launcher: str, tmp_path: Path) -> None:
    rows = random_rows(20_011, 8)
    np.save(tmp_path / "d.npy", rows)
    options = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--batch-size", str(batch_size)]
    outcome = run(predict_command(*options, "--device", "cuda", launcher=LAUNCHERS[launcher]), tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").tobytes() == plain_loop_on_gpu(zoo.mlp(), rows, batch_size).tobytes()


def test_a_bad_row_does_not_touch_its_neighbors(tmp_path: Path) -> None:
    rows = random_rows(5_000, 8)
    rows[[70, 71, 4_000], 0] = 1000.0
    np.save(tmp_path / "d.npy", rows)
    options = ["--model", "zoo:FailsAtRow", "--model-args", json.dumps({"value": 1000.0}), "--data", "d.npy"]
    options += ["--output", "p.npy", "--on-error", "quarantine", "--device", "cuda"]
    outcome = run(predict_command(*options), tmp_path)
    assert outcome.code == 0, outcome.output
    expected = rows * 2
    expected[[70, 71, 4_000]] = np.nan
    assert np.array_equal(np.load(tmp_path / "p.npy"), expected, equal_nan=True)
