"""The answer does not depend on how it was computed: the bytes of a plain loop, under every launcher."""

from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from launch import LAUNCHERS, PROGRAMS, python, run
from matrix import CASES, data_name
from reference import plain_loop, random_rows

POSTPROCESS = {
    None: lambda output: output,
    "argmax": lambda output: output.argmax(dim=1),
    "softmax": lambda output: output.softmax(dim=1),
    "topk:3": lambda output: output.topk(3, dim=1).indices,
    "zoo:first_column": zoo.first_column,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for num_rows, row_shape, _, _ in CASES.values():
        np.save(folder / data_name(num_rows, row_shape), random_rows(num_rows, *row_shape))
    return folder


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What numpy.save writes of the plain loop's predictions, case by case."""
    folder = tmp_path_factory.mktemp("expected")
    for name, (num_rows, row_shape, batch_size, options) in CASES.items():
        model = getattr(zoo, options["model"].removeprefix("zoo:"))(**options.get("model_args", {}))
        rows = np.load(data / data_name(num_rows, row_shape))
        if "preprocess" in options:
            rows = zoo.halve(torch.from_numpy(rows)).numpy()
        postprocess = POSTPROCESS[options.get("postprocess")]
        # without rows the loop has no predictions, so their shape and dtype come from a row of zeros
        predictions = plain_loop(
            model, rows if num_rows else np.zeros((1, *row_shape), np.float32), batch_size, postprocess
        )
        np.save(folder / f"{name}.npy", predictions[:num_rows])
    return folder


WAYS = [
    ("alone", ""),
    ("alone", "schedule=dynamic collect=direct"),
    ("mpirun-1", ""),
    ("mpirun-2", "comm=mpi"),
    ("mpirun-3", ""),
    ("mpirun-3", "comm=mpi collect=alltoall schedule=dynamic"),
    ("mpirun-5", "collect=direct schedule=dynamic"),
    ("horovodrun-2", ""),
    ("horovodrun-2", "collect=alltoall schedule=dynamic"),
]


@pytest.mark.parametrize(("launcher", "options"), WAYS)
def test_bytes_equal_a_plain_loop(launcher: str, options: str, data: Path, expected: Path, tmp_path: Path) -> None:
    command = [*LAUNCHERS[launcher], *python(), PROGRAMS / "matrix.py", data, tmp_path, *options.split()]
    outcome = run(command, tmp_path, timeout=280)
    assert outcome.code == 0, outcome.output
    differing = [
        name for name in CASES if (tmp_path / f"{name}.npy").read_bytes() != (expected / f"{name}.npy").read_bytes()
    ]
    assert differing == []
    assert not list(tmp_path.glob("*.partial"))


def test_the_matrix_is_worth_comparing(expected: Path) -> None:
    """Guards the comparison itself: the expected outputs are of the shapes and dtypes the cases are named after."""
    assert np.load(expected / "vector-bfloat16.npy").dtype == np.float32
    assert np.load(expected / "vector-bool.npy").dtype == np.bool_
    assert np.load(expected / "score-int64.npy").shape == (97,)
    assert np.load(expected / "images.npy").shape == (97, 2, 6, 5)
    assert np.load(expected / "mlp-0-32.npy").shape == (0, 10)
    assert len(np.unique(np.load(expected / "argmax.npy"))) > 2
