"""Folders that sentence-transformers has saved give what the library itself gives, on 1, 2 and 3 ranks."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from launch import LAUNCHERS, TESTS, run
from sentence_models import MAKERS, Saved

import runner

TOLERANCE = {"bfloat16": 0.02}  # of the largest value; 2e-6 where there is none


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    saved = Saved(tmp_path_factory.mktemp("sentences"))
    for make in MAKERS:
        make(saved)
    return saved


@pytest.fixture(scope="module")
def folder(saved: Saved) -> Path:
    """Where the jobs' outputs are: of each by one rank, run here."""
    folder = saved._folder
    for options in jobs(saved, folder / "1"):
        runner.predict(**{"threads": 1, **options})
    return folder


def jobs(saved: Saved, outputs: Path) -> list[dict[str, Any]]:
    outputs.mkdir()
    common = {"data": str(saved._folder / "d.parquet"), "batch_size": 4, "chunk_size": 8}
    return [
        {**common, **options, "output": str(outputs / f"{name}.{'parquet' if name == 'sparse' else 'npy'}")}
        for name, options in saved.jobs.items()
    ]


def dense(path: Path, width: int) -> np.ndarray:
    """Indices and values of a Parquet file, as an array."""
    table = pyarrow.parquet.read_table(path)
    found = np.zeros((len(table), width), np.float32)
    for row, (indices, values) in enumerate(
        zip(*(table[name].to_pylist() for name in ("indices", "values")), strict=True)
    ):
        found[row, indices] = values
    return found


def test_one_rank_gives_what_the_library_gives(saved: Saved, folder: Path) -> None:
    for name, expected in saved.expected.items():
        if name == "sparse":
            found = dense(folder / "1" / "sparse.parquet", expected.shape[1])
            assert ((found != 0) == (expected != 0)).all()
        else:
            found = np.load(folder / "1" / f"{name}.npy")
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), name
        if name in ("int8", "uint8"):  # a value may lie on the border of two levels but for rounding
            assert (found != expected).mean() < 0.005
        elif found.dtype.kind in "iu":
            assert (found == expected).all(), name
        else:
            assert np.abs(found - expected).max() < TOLERANCE.get(name, 2e-6) * max(1, np.abs(expected).max()), name


@pytest.mark.parametrize("ranks", [2, 3])
def test_more_ranks_give_the_same_bytes(ranks: int, saved: Saved, folder: Path) -> None:
    (folder / f"{ranks}.json").write_text(json.dumps(jobs(saved, folder / str(ranks))))
    command = [*LAUNCHERS[f"mpirun-{ranks}"], sys.executable, TESTS / "jobs/several.py", f"{ranks}.json"]
    outcome = run(command, folder)
    assert outcome.code == 0, outcome.output
    for file in sorted((folder / "1").glob("*.*")):
        if file.is_file():
            assert file.read_bytes() == (folder / str(ranks) / file.name).read_bytes(), file.name
