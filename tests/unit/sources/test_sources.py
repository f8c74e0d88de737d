"""Rows of `.npy` files of every layout, against numpy.load."""

import os
from pathlib import Path

import numpy as np
import pytest
from launch import LAUNCHERS, predict_command, predict_here, run

from runner.core.errors import InputError
from runner.data.rows import RowType
from runner.sources import open_source

LAYOUTS = {
    "float32": np.random.default_rng(0).normal(size=(97, 3, 5)).astype("<f4"),
    "big-endian": np.arange(97 * 4).reshape(97, 4).astype(">i4"),
    "column-major": np.asfortranarray(np.arange(97 * 6, dtype="<f8").reshape(97, 2, 3)),
    "flat": np.arange(97, dtype="|u1"),
    "bool": np.arange(97) % 3 == 0,
    "complex": np.arange(97).astype("<c8") * 1j,
    "no rows": np.zeros((0, 4), "<f4"),
    "empty rows": np.zeros((97, 0), "<f4"),
    "column-major, no rows": np.asfortranarray(np.zeros((0, 4), "<f4")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_equal_what_numpy_loads(name: str, tmp_path: Path) -> None:
    array, path = LAYOUTS[name], str(tmp_path / "d.npy")
    np.save(path, array)
    source = open_source(path)
    assert source.num_rows == array.shape[0]
    assert source.row_type == RowType(array.shape[1:], array.dtype.newbyteorder("="))
    for start, stop in ((0, 0), (0, source.num_rows), (source.num_rows // 3, source.num_rows // 2)):
        rows = source.read(start, stop)
        assert rows.dtype == source.row_type.dtype
        assert rows.flags.c_contiguous
        assert rows.flags.writeable
        assert np.array_equal(rows, np.load(path)[start:stop])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format(version: tuple[int, int], tmp_path: Path) -> None:
    array = np.arange(12.0).reshape(4, 3)
    with (tmp_path / "d.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version=version)
    assert np.array_equal(open_source(str(tmp_path / "d.npy")).read(1, 3), array[1:3])


def test_a_file_that_shrinks_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros((100, 10)))
    source = open_source(str(tmp_path / "d.npy"))
    os.truncate(tmp_path / "d.npy", 4000)
    assert source.read(0, 10).shape == (10, 10)
    with pytest.raises(InputError, match="shorter"):
        source.read(40, 60)


def test_digest_tells_data_sets_apart(tmp_path: Path) -> None:
    large = np.zeros((1 << 20, 10), "<f8")  # 80 MiB: sampled
    digests = set()
    for position in (None, (0, 0), (len(large) - 1, 9)):
        changed = large.copy()
        if position is not None:
            changed[position] = 1.0
        np.save(tmp_path / "d.npy", changed)
        digests.add(open_source(str(tmp_path / "d.npy")).digest())
    np.save(tmp_path / "d.npy", large[:-1])
    digests.add(open_source(str(tmp_path / "d.npy")).digest())
    assert len(digests) == 4

    np.save(tmp_path / "small.npy", np.zeros(1000))
    before = open_source(str(tmp_path / "small.npy")).digest()
    np.save(tmp_path / "small.npy", np.eye(1, 1000, 617)[0])
    assert open_source(str(tmp_path / "small.npy")).digest() != before


@pytest.mark.parametrize("data", [3.0, ["a", "b"], [[1], [1, 2]], None, object()])
def test_what_is_no_array_is_refused(data: object) -> None:
    with pytest.raises(InputError):
        open_source(data)


@pytest.mark.launch
def test_some_rows_of_the_data(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((100, 3)).astype(np.float32)
    np.save(tmp_path / "d.npy", rows)
    command = ["--model", "zoo:Identity", "--data", "d.npy", "--batch-size", "7"]
    for name, options, expected in (
        ("middle", ["--skip", "11", "--limit", "60"], rows[11:71]),
        ("end", ["--skip", "95", "--limit", "60"], rows[95:]),
        ("none", ["--limit", "0"], rows[:0]),
    ):
        words = [*command, *options, "--output", f"{name}.npy"]
        if name == "middle":
            outcome = run(predict_command(*words, launcher=LAUNCHERS["mpirun-2"]), tmp_path)
        else:
            outcome = predict_here(*words, folder=tmp_path)
        assert outcome.code == 0, outcome.output
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), expected)
    outcome = predict_here(*command, "--output", "p.npy", "--limit", "-1", folder=tmp_path)
    assert (outcome.code, "--limit must be a whole number of 0 or more" in outcome.output) == (64, True)
