"""Rows of `.npy` files of every layout, against numpy.load."""

import json
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr
import zoo
from launch import LAUNCHERS, predict_command, predict_here, run
from torch.utils.data import TensorDataset

import runner
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


def test_rows_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    """A few bytes could claim any number of them."""
    many = 10**13
    with (tmp_path / "d.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (many, 0)}
        np.lib.format.write_array_header_1_0(file, header)
    for name, save in (("stored.npz", np.savez), ("compressed.npz", np.savez_compressed)):
        save(tmp_path / name, x=np.zeros((many, 2, 0)))
    with h5py.File(tmp_path / "d.h5", "w") as hdf5:
        hdf5["x"] = np.zeros((many, 0))
    zarr.create_array(tmp_path / "d.zarr", shape=(many, 0), chunks=(9, 1), dtype="f4")
    index = {"num_rows": many, "row_shape": [0], "dtype": "<f4", "files": [{"name": "d.npy", "start": 0, "stop": many}]}
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/index.json").write_text(json.dumps(index))
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 6
    for name in [*names, "*.npz"]:
        outcome = predict_here("--model", "zoo:mlp", "--data", name, "--output", "p.npy", folder=tmp_path)
        assert (outcome.code, outcome.output.count("runner: error")) == (65, 1), outcome.output
        assert re.search(r"has 10,000,000,000,000 rows of shape \((2, )?0,?\), which hold no values", outcome.output)
    data = [[tmp_path / "d.npy", tmp_path / "d.npy"], np.zeros((many, 0)), torch.zeros(9, 0)]
    for given in [*data, TensorDataset(torch.zeros(9, 0))]:
        with pytest.raises(InputError, match=r"has (9|10,000,000,000,000) rows of shape \(0,\), which hold no values"):
            runner.predict(model=zoo.mlp, data=given, output=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


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
