"""What loading a model takes, weights that ranks share, and layers that a factory has quantized."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import PROGRAMS, mpirun, predict_command, run
from memory_of_model import stack
from quantized import Recurrent, in_8_bits
from reference import random_rows
from safetensors.torch import save_model

MIB = 256


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_model(stack(MIB // 16), str(path))
    return path


def load(ranks: int, weights: Path, **options: object) -> dict:
    """Memory of each rank in multiples of the model's bytes, after a word on stdout."""
    given = json.dumps({"weights": str(weights), **options})
    command = [*mpirun(ranks), sys.executable, PROGRAMS / "memory_of_model.py", str(MIB), given]
    outcome = run(command, weights.parent)
    assert outcome.code == 0, outcome.output
    found: dict = json.loads(outcome.output)
    assert len(found["digests"]) == 1
    assert len(found["sums"]) == 1
    return found


def test_the_model_is_there_once_a_rank_and_with_shared_weights_once_a_host(weights: Path) -> None:
    alone, shared = load(3, weights), load(3, weights, share_weights=True)
    assert (alone["digests"], alone["sums"]) == (shared["digests"], shared["sums"])
    for found, each in (alone, 1), (shared, 1 / 3):
        # rank 0 maps the file, too, whose pages the kernel takes back when it wants to
        assert found["peak"][0] < 2.1
        assert max(found["peak"][1:]) < 1.1
        assert max(found["pss"]) < each + 0.1
        assert min(found["pss"]) > each - 0.1


def test_a_model_that_writes_to_shared_weights_changes_its_own_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(200, 8))
    command = ["--model", "zoo:Counts", "--data", "d.npy", "--chunk-size", "50", "--batch-size", "50"]
    command += ["--stateful", "keep"]
    for output, options in ("own.npy", []), ("shared.npy", ["--share-weights"]):
        outcome = run(predict_command(*command, *options, "--output", output, launcher=mpirun(2)), tmp_path)
        assert outcome.code == 0, outcome.output
    found = np.load(tmp_path / "shared.npy")
    assert found.tobytes() == np.load(tmp_path / "own.npy").tobytes()
    assert len(set(found.tolist())) > 1  # it does count


@pytest.mark.filterwarnings("ignore")  # PyTorch's, that its quantization is deprecated
def test_a_module_that_its_factory_has_quantized(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    rows = random_rows(197, 6, 8)
    np.save(tmp_path / "d.npy", rows)
    model = in_8_bits()
    with torch.inference_mode():
        expected = torch.cat([model(batch) for batch in torch.from_numpy(rows).split(32)]).numpy()
        exact = Recurrent()(torch.from_numpy(rows)).numpy()
    assert 0 < np.abs(expected - exact).max() < 0.05
    command = ["--model", "quantized:in_8_bits", "--data", "d.npy"]
    outcome = run(predict_command(*command, "--output", "p.npy", launcher=mpirun(2)), tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").tobytes() == expected.tobytes()
