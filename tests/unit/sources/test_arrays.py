"""Arrays by name, in .npz, HDF5 and Zarr: any range of rows, against what the libraries read themselves."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_files import (
    NUM_ROWS,
    NUMBERS,
    RANGES,
    WRITERS,
    assert_same,
    damage,
    reading,
    write,
    write_flat_zarr,
    write_hdf5,
)
from launch import LAUNCHERS, predict_command, predict_here, run

from runner.core.errors import InputError, RunnerError
from runner.data.rows import RowType
from runner.sources import base, open_source


@pytest.mark.parametrize("kind", WRITERS)
def test_any_rows_are_what_the_library_reads(kind: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    theirs = reading(path)
    for name, array in NUMBERS.items():
        if not array.size:  # not without another column
            continue
        source = open_source(f"{path}::{name}")
        assert source.num_rows == NUM_ROWS
        assert source.row_type == RowType(array.shape[1:], array.dtype.newbyteorder("="))
        assert source.row_bytes == array[0].nbytes
        for start, stop in RANGES:
            assert_same(source.read(start, stop), theirs[name][start:stop])
        for batch in range(0, NUM_ROWS, 50):
            assert_same(source.read(batch, min(NUM_ROWS, batch + 50)), theirs[name][batch : batch + 50])
    with_empty = open_source(path, ["empty", "flat"]).read(7, 9)["empty"]
    assert_same(with_empty, theirs["empty"][7:9])
    both = open_source(path, ["flat", "images"], ["good", "flat"])
    assert list(both.row_type) == list(both.read(3, 5)) == ["flat", "images", "good"]
    assert_same(both.read(60, 70)["images"], NUMBERS["images"][60:70])
    assert open_source(f"{path}::flat", keep=["good"]).read(5, 6)["good"] == [False]
    assert open_source(path, ["flat"]).row_type == RowType((), np.dtype("u1"))


@pytest.mark.parametrize("kind", WRITERS)
def test_no_rows(kind: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path, {"x": np.zeros((0, 4), "f4")})
    source = open_source(path)
    assert (source.num_rows, source.row_type) == (0, RowType((4,), np.dtype("f4")))
    assert source.read(0, 0).shape == (0, 4)
    assert source.digest() == open_source(path).digest()


@pytest.mark.parametrize("kind", WRITERS)
def test_two_threads_read_alike(kind: str, tmp_path: Path) -> None:
    source = open_source(write(kind, tmp_path), ["images", "flat"])
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda row: source.read(row, row + 20), [*range(0, 900, 13), *range(900, 0, -17)]))
    for row, rows in zip([*range(0, 900, 13), *range(900, 0, -17)], found, strict=True):
        assert np.array_equal(rows["images"], NUMBERS["images"][row : row + 20])


@pytest.mark.parametrize("kind", WRITERS)
def test_digest_and_stamp_tell_data_sets_apart(kind: str, tmp_path: Path) -> None:
    arrays = {"x": np.zeros((NUM_ROWS, 7)), "y": np.zeros(NUM_ROWS)}
    path = write(kind, tmp_path, arrays)
    digests, stamps = {open_source(path, ["x"]).digest()}, {open_source(path, ["x"]).stamp()}
    arrays["y"][:] = 1
    write(kind, tmp_path, arrays)
    digests.add(open_source(path, ["x"]).digest())
    assert len(digests) == 1
    stamps.add(open_source(path, ["x"]).stamp())
    arrays["x"][617, 3] = 1
    write(kind, tmp_path, arrays)
    digests.add(open_source(path, ["x"]).digest())
    stamps.add(open_source(path, ["x"]).stamp())
    assert (len(digests), len(stamps)) == (2, 3)
    (tmp_path / "elsewhere").mkdir()
    assert open_source(write(kind, tmp_path / "elsewhere", arrays), ["x"]).digest() in digests


@pytest.mark.parametrize("kind", ["npz", "compressed", "hdf5"])
def test_behind_a_url(kind: str, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    path = Path(write(kind, tmp_path))
    with fsspec.open(f"memory://arrays/{path.name}", "wb") as file:
        file.write(path.read_bytes())
    source, local = (open_source(where, ["big", "images"]) for where in (f"memory://arrays/{path.name}", str(path)))
    assert np.array_equal(source.read(5, 777)["big"], NUMBERS["big"][5:777])
    assert source.digest() == local.digest()
    stamp = source.stamp()
    assert stamp == open_source(f"memory://arrays/{path.name}::big").stamp()
    with pytest.raises(InputError, match="none"):
        open_source(f"memory://arrays/none{path.suffix}::big")


def test_pieces_too_large_to_be_decoded_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_DECODED_BYTES", 20_000)
    for kind in ("hdf5", "zarr2", "zarr3"):
        path = write(kind, tmp_path)
        assert open_source(f"{path}::flat").num_rows == NUM_ROWS
        with pytest.raises(InputError, match=r"images has chunks of 22\.5 KiB when decoded.*chunks=\.\.\."):
            open_source(f"{path}::images")
    table = pa.table({"same": np.zeros(4000), "word": ["word"] * 4000, "empty": [""] * 4000})
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=2400)
    for column in table.column_names:
        assert open_source(f"{tmp_path}/d.parquet", [column]).num_rows == 4000
    for columns in (["same", "word"], ["empty", "word"]):
        with pytest.raises(InputError, match=r"row groups of 37\.5 KiB .*--columns, or save it .*row_group_size"):
            open_source(f"{tmp_path}/d.parquet", columns)


@pytest.mark.parametrize("kind", WRITERS)
def test_names_that_are_not_there_and_files_that_are_none(kind: str, tmp_path: Path) -> None:
    path = Path(write(kind, tmp_path, {"a": np.arange(5), "b": np.arange(6)}))
    with pytest.raises(InputError, match=rf"--data .*{path.name} has no (array|dataset) 'c'; it has a, b"):
        open_source(str(path), ["a"], ["c"])
    with pytest.raises(InputError, match="must have equally many rows; these have a: 5, b: 6"):
        open_source(str(path), ["a", "b"])
    bad = path.with_stem("bad")
    with pytest.raises(InputError, match="bad"):
        open_source(f"{bad}::a")
    contents = [b"", b"no such format" * 100]
    if path.is_file():
        whole = path.read_bytes()
        contents += [whole[:size] for size in (1, 8, 100, len(whole) // 2, len(whole) - 1)]
    for content in contents:
        bad.write_bytes(content)
        with pytest.raises(InputError, match="bad"):
            open_source(f"{bad}::a")


@pytest.mark.parametrize("kind", WRITERS)
def test_damage_anywhere_is_an_input_error(kind: str, tmp_path: Path) -> None:
    path = Path(write(kind, tmp_path, {"x": NUMBERS["big"], "y": NUMBERS["flat"]}))
    rng = np.random.default_rng(7)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files[::3]:
        whole = file.read_bytes()
        for position in rng.integers(0, len(whole), 200 // len(files) + 1).tolist():
            file.write_bytes(whole[:position] + rng.bytes(4) + whole[position + 4 :])
            try:
                source = open_source(f"{path}::x")
                source.digest()
                source.read(0, source.num_rows)
            except RunnerError:
                pass
        file.write_bytes(whole)
    assert np.array_equal(open_source(f"{path}::x").read(0, NUM_ROWS), NUMBERS["big"])


@pytest.mark.parametrize("kind", ["hdf5", "zarr2", "zarr3"])
def test_a_damaged_chunk_is_set_aside(kind: str, tmp_path: Path) -> None:
    array, path = np.arange(NUM_ROWS * 3.0).reshape(NUM_ROWS, 3) + 1, tmp_path / WRITERS[kind][0]
    if kind == "hdf5":
        write_hdf5(path, {"x": array})
    else:
        write_flat_zarr(path, int(kind[-1]), array)
    bad = damage(path, array)
    source = open_source(f"{path}::x")
    with pytest.raises(InputError, match=r"d\.(h5|zarr)::x: rows 192 to 255 cannot be read"):
        source.read(bad[0], bad[0] + 1)
    assert np.array_equal(source.read(bad[0] - 1, bad[0]), array[bad[0] - 1 : bad[0]])
    assert np.array_equal(source.read(bad.stop, bad.stop + 1), array[bad.stop : bad.stop + 1])
    command = ["--model", "zoo:Identity", "--data", f"{path}::x", "--output", "p.npy"]
    outcome = predict_here(*command, folder=tmp_path)
    assert (outcome.code, "rows 192 to 255 cannot be read" in outcome.output) == (65, True), outcome.output
    outcome = predict_here(*command, "--on-error", "quarantine", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    lines = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(bad)
    array[bad] = np.nan
    assert np.array_equal(np.load(tmp_path / "p.npy"), array, equal_nan=True)


@pytest.mark.launch
@pytest.mark.parametrize(("kind", "launcher"), [("npz", "mpirun-3"), ("hdf5", "mpirun-2"), ("zarr3", "mpirun-2")])
def test_arrays_are_predicted_on_several_ranks(kind: str, launcher: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    command = ["--model", "array_files:Both", "--data", path, "--columns", "images,flat", "--output", "p.npy"]
    outcome = run(predict_command(*command, "--batch-size", "16", launcher=LAUNCHERS[launcher]), tmp_path)
    assert outcome.code == 0, outcome.output
    expected = NUMBERS["images"].sum(axis=(1, 2, 3)) + NUMBERS["flat"]
    assert np.allclose(np.load(tmp_path / "p.npy"), expected, atol=1e-4)
