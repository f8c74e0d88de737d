"""Several outputs by name: fields of one row, in every way that one output goes."""

import dataclasses
import json
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from launch import LAUNCHERS, Outcome, predict_command, predict_here, run, run_here
from reference import random_rows

from runner.core.errors import ModelError
from runner.data.outputs import as_outputs, join, row_type_of

NUM_ROWS, BATCH_SIZE = 1797, 32
FIELDS = ["logits", "label", "pairs", "good"]


def predict(folder: Path, *options: str, launcher: str = "here") -> Outcome:
    command = ["--model", "zoo:Several", "--data", "d.npy", "--output", "p.npy", "--chunk-size", "64", *options]
    if launcher == "here":
        return predict_here(*command, folder=folder)
    return run(predict_command(*command, launcher=LAUNCHERS[launcher]), folder)


def by_hand(rows: np.ndarray) -> dict[str, np.ndarray]:
    """One batch after another, each output by itself."""
    model = zoo.Several().eval()
    found: dict[str, list[np.ndarray]] = {name: [] for name in FIELDS}
    with torch.inference_mode():
        for batch in torch.from_numpy(rows).split(BATCH_SIZE):
            outputs = model(batch)
            for name in FIELDS:
                tensor = outputs[name]
                found[name].append((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


@pytest.fixture
def rows(tmp_path: Path) -> np.ndarray:
    torch.set_num_threads(1)
    rows = random_rows(NUM_ROWS, 8)
    np.save(tmp_path / "d.npy", rows)
    return rows


@pytest.mark.parametrize(
    ("launcher", "options"),
    [
        ("here", []),
        ("mpirun-3", []),
        ("mpirun-2", ["--comm", "mpi", "--collect", "alltoall", "--schedule", "dynamic"]),
        ("mpirun-2", ["--collect", "direct"]),
    ],
)
def test_each_is_what_it_would_be_alone(launcher: str, options: list[str], rows: np.ndarray, tmp_path: Path) -> None:
    outcome = predict(tmp_path, *options, launcher=launcher)
    assert outcome.code == 0, outcome.output
    predictions = np.load(tmp_path / "p.npy")
    assert predictions.shape == (NUM_ROWS,)
    assert list(predictions.dtype.names) == FIELDS
    for name, expected in by_hand(rows).items():
        found = np.ascontiguousarray(predictions[name])
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
        assert found.tobytes() == expected.tobytes(), name
    assert run_here("verify", "p.npy", folder=tmp_path).code == 0


def test_into_a_folder_and_from_there_into_the_next_model(rows: np.ndarray, tmp_path: Path) -> None:
    assert predict(tmp_path, "--collect", "shards", launcher="mpirun-2").code == 0
    assert run_here("verify", "p.npy", folder=tmp_path).code == 0
    chain = ["--model", "zoo:TakesSeveral", "--data", "p.npy", "--output", "q.npy", "--collect", "allgather"]
    outcome = predict(tmp_path, *chain, launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    tensors = [torch.from_numpy(array) for array in by_hand(rows).values()]
    with torch.inference_mode():
        expected = [zoo.TakesSeveral()(*batch) for batch in zip(*(t.split(32) for t in tensors), strict=True)]
    assert np.load(tmp_path / "q.npy").tobytes() == torch.cat(expected).numpy().tobytes()


def test_bad_rows_and_rows_that_are_not_finite(rows: np.ndarray, tmp_path: Path) -> None:
    rows[[5, 700], 0] = 1000.0
    rows[[6, 1796], 0] = 2000.0
    np.save(tmp_path / "d.npy", rows)
    bad = ["--model-args", json.dumps({"fails_at": 1000.0, "value": 2000.0}), "--on-error", "quarantine"]
    outcome = predict(tmp_path, *bad, launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    predictions, expected = np.load(tmp_path / "p.npy"), by_hand(rows)
    assert np.isnan(predictions["logits"][[5, 700]]).all()
    assert np.isnan(predictions["pairs"][[5, 700]]).all()
    assert predictions["label"][[5, 700]].tolist() == [-1, -1]
    assert predictions["good"][[5, 700]].tolist() == [False, False]
    good = np.setdiff1d(np.arange(NUM_ROWS), [5, 6, 700, 1796])
    for name in FIELDS:
        assert np.array_equal(predictions[name][good], expected[name][good]), name
    report = json.loads((tmp_path / "p.npy.run/report.json").read_text())
    assert (report["quarantined_rows"], report["nonfinite_rows"]) == (2, 2)


@dataclasses.dataclass
class Found:
    a: torch.Tensor
    b: torch.Tensor | None = None


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_counts_as_outputs() -> None:
    tensor, array = torch.ones(3, 2), np.zeros((3, 4), np.int16)
    pair = namedtuple("pair", "x y")
    assert as_outputs(tensor) is tensor
    assert torch.equal(as_outputs(array), torch.zeros(3, 4, dtype=torch.int16))
    assert as_outputs({"only": tensor}) is tensor
    assert as_outputs(Found(tensor)) is tensor
    assert list(as_outputs(Found(tensor, tensor))) == ["a", "b"]
    assert list(as_outputs(pair(tensor, array))) == ["x", "y"]
    assert list(as_outputs([tensor, array])) == ["0", "1"]
    row_type = row_type_of(as_outputs((tensor, array)))
    assert row_type.row_bytes == 2 * 4 + 4 * 2
    both = as_outputs((tensor, array))
    assert {name: len(part) for name, part in join([both, both]).items()} == {"0": 6, "1": 6}
    for wrong in (None, 3, "text", [], {}, Found(None)):  # type: ignore[arg-type]
        with pytest.raises(ModelError, match="tensors are needed"):
            as_outputs(wrong)
    with pytest.raises(ModelError, match="a tuple with a tuple as 1"):
        as_outputs((tensor, (tensor, tensor)))
    with pytest.raises(ModelError, match="a dict with a ndarray as 'when'"):
        as_outputs({"logits": tensor, "when": np.array(["2026-01-01"], "datetime64[D]")})
    several = as_outputs(
        {"names": np.array(["a", "möglich"]), "spans": torch.nested.nested_tensor([tensor, tensor[:1]])}
    )
    assert several["names"].lengths.tolist() == [1, 8]
    assert several["spans"].values.shape == (4, 2)
    assert join([several, several])["spans"].lengths.tolist() == [3, 1, 3, 1]
