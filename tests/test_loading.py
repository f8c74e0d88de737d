"""What loading a model takes, weights that ranks share, and 8-bit layers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import TESTS, mpirun, predict_command, predict_here, run
from reference import random_rows
from safetensors.torch import save_model
from torch import nn

sys.path.insert(0, str(TESTS / "jobs"))
from memory_of_model import stack

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
    command = [*mpirun(ranks), sys.executable, TESTS / "jobs/memory_of_model.py", str(MIB), given]
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


def test_8_bit_weights_take_a_quarter(weights: Path) -> None:
    found = load(2, weights, quantize="int8")
    assert max(found["peak"][1:]) < 1.4
    assert max(found["pss"]) < 0.35


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


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.memory, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.memory(rows)
        return self.head(hidden[:, -1])


@pytest.mark.filterwarnings("ignore")  # PyTorch's, that its quantization is deprecated
def test_8_bits_are_what_pytorch_makes_of_it(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    rows = random_rows(197, 6, 8)
    np.save(tmp_path / "d.npy", rows)
    (tmp_path / "own.py").write_text("from test_loading import Recurrent\n")
    model = torch.ao.quantization.quantize_dynamic(Recurrent().eval(), dtype=torch.qint8)
    with torch.inference_mode():
        expected = torch.cat([model(batch) for batch in torch.from_numpy(rows).split(32)]).numpy()
        exact = Recurrent()(torch.from_numpy(rows)).numpy()
    assert 0 < np.abs(expected - exact).max() < 0.05
    command = ["--model", "own:Recurrent", "--data", "d.npy", "--quantize", "int8"]
    outcome = run(predict_command(*command, "--output", "p.npy", launcher=mpirun(2)), tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--quantize", "int4"], "--quantize 'int4' is not one of int8", 64),
        (["--quantize", "int8", "--dtype", "bfloat16"], "--quantize and --dtype cannot be combined", 64),
        (["--quantize", "int8", "--share-weights"], "--quantize and --share-weights cannot be combined", 64),
        (["--quantize", "int8"], "--quantize int8 finds nothing to do: the model has no torch.nn.Linear", 65),
    ],
)
def test_refused(options: list[str], message: str, code: int, tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(5, 8))
    command = ["--model", "zoo:Identity", "--data", "d.npy", "--output", "p.npy", *options]
    if code == 64:
        outcome = predict_here(*command, folder=tmp_path)
    else:
        outcome = run(predict_command(*command, launcher=mpirun(2)), tmp_path)
    assert (outcome.code, outcome.output.count(message), outcome.output.count("runner: error")) == (code, 1, 1), (
        outcome.output
    )
