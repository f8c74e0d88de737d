"""Files as other programs need them: dimensions of Zarr, chunks of HDF5, NaN of CSV, half precision; and refusals."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import zarr
from launch import predict_here, run_here

from runner.core.errors import UsageError
from runner.data.cells import to_cells, type_of_cells
from runner.data.rows import RAGGED, TEXT, Ragged, RowType, ragged_text
from runner.sinks import arrow, find_writer
from runner.sinks.csv import CsvWriter
from runner.sinks.feather import FeatherWriter
from runner.sinks.hdf5 import Hdf5Writer
from runner.sinks.layout import dimension_names
from runner.sinks.parquet import ParquetWriter
from runner.sinks.zarr import ZarrWriter
from runner.sources import open_source

ROWS = np.arange(24.0).reshape(4, 2, 3)
WRITERS: dict[str, Any] = {"parquet": ParquetWriter, "feather": FeatherWriter, "h5": Hdf5Writer, "zarr": ZarrWriter}


def lists(kind: Any, length: int, name: str = "item") -> Any:
    """Of a length, without null."""
    return pa.list_(pa.field(name, kind, nullable=False), length)


def written(writer: Any, path: Path, **columns: Any) -> Path:
    types = {name: RowType(c.shape[1:], c.dtype) if isinstance(c, np.ndarray) else c[0] for name, c in columns.items()}
    writer.check(str(path), types)
    file = writer(str(path), types, 4)
    file.write({name: c if isinstance(c, np.ndarray) else c[1] for name, c in columns.items()})
    file.close()
    return path


def test_arrays_of_zarr_have_named_dimensions_and_all_their_chunks(tmp_path: Path) -> None:
    group = zarr.open_group(written(ZarrWriter, tmp_path / "p.zarr", predictions=0 * ROWS, id=np.arange(4)), mode="r")
    assert group["predictions"].metadata.dimension_names == ("row", "predictions_0", "predictions_1")  # type: ignore[union-attr]
    assert group["id"].metadata.dimension_names == ("row",)  # type: ignore[union-attr]
    assert group["predictions"].nchunks_initialized == 1  # type: ignore[union-attr]
    assert open_source(f"{tmp_path}/p.zarr::predictions").notes == []  # type: ignore[attr-defined]


def test_origin_is_in_files_that_have_a_place_for_it(tmp_path: Path) -> None:
    origin, types = {"model": "zoo:Möglich", "weights_digest": "xxh3:0"}, {"x": RowType((), np.dtype("f4"))}
    for suffix, writer in WRITERS.items():
        file = writer(f"{tmp_path}/p.{suffix}", types, 0, origin)
        file.close()
    found = [dict(h5py.File(tmp_path / "p.h5").attrs), zarr.open_group(tmp_path / "p.zarr").attrs.asdict()]
    schemas = [pa.parquet.read_schema(tmp_path / "p.parquet"), pa.ipc.open_file(tmp_path / "p.feather").schema]
    found += [{k.decode(): v.decode() for k, v in schema.metadata.items()} for schema in schemas]
    assert found == [origin] * 4


def test_only_passthrough_columns_of_parquet_have_null_and_floats_no_dictionary(tmp_path: Path) -> None:
    kind = type_of_cells(pa.int64())
    columns = {"x": ROWS, "id": np.arange(4), "word": (RowType(RAGGED, TEXT), ragged_text(["a", "b", "a", ""]))}
    unlike = RowType((-1, 2), np.dtype("f4")), Ragged(np.ones((3, 2), "f4"), np.array([0, 0, 2, 2, 3]))
    columns |= {"unlike": unlike, "kept": (RowType(RAGGED, kind), to_cells(pa.array([1, None, 3, 4]), kind))}
    file = pa.parquet.ParquetFile(written(ParquetWriter, tmp_path / "p.parquet", **columns))
    assert [name for name in columns if file.schema_arrow.field(name).nullable] == ["kept"]
    inner = file.schema_arrow.field("unlike").type.value_field
    assert (inner.nullable, inner.type.value_field.nullable) == (False, False)
    assert file.read()["unlike"].to_pylist() == [[], [[1, 1], [1, 1]], [], [[1, 1]]]
    stored = [file.metadata.row_group(0).column(index) for index in range(file.metadata.num_columns)]
    with_dictionary = [c.path_in_schema for c in stored if "RLE_DICTIONARY" in c.encodings]
    assert with_dictionary == ["id", "word", "kept"]


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_groups_of_rows_are_bounded(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "_MOST_GROUP_BYTES", 100)
    path = written(WRITERS[suffix], tmp_path / f"p.{suffix}", x=ROWS)
    if suffix == "parquet":
        groups = pa.parquet.ParquetFile(path).metadata
        assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [2, 2]
        assert pa.parquet.read_table(path)["x"].to_pylist() == ROWS.tolist()
    else:
        batches = pa.ipc.open_file(path)
        assert [batches.get_batch(index).num_rows for index in range(batches.num_record_batches)] == [2, 2]
        assert batches.read_all()["x"].to_pylist() == ROWS.tolist()


@pytest.mark.parametrize("writer", [Hdf5Writer, ZarrWriter])
def test_rows_of_any_number_fill_chunks(writer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{writer.__module__}._CHUNK_BYTES", 160)
    columns = {"x": np.arange(1000.0).reshape(100, 10), "y": np.arange(100), "z": np.ones((100, 0), "f4")}
    columns["wide"] = np.arange(9000.0).reshape(100, 3, 30)
    columns["some"] = columns["x"] > 5
    types = {name: RowType(column.shape[1:], column.dtype) for name, column in columns.items()}
    file = writer(str(tmp_path / "p"), types, 100)
    for start, stop in ((0, 1), (1, 2), (2, 50), (50, 50), (50, 73), (73, 100)):
        file.write({name: column[start:stop] for name, column in columns.items()})
    file.close()
    found = h5py.File(tmp_path / "p") if writer is Hdf5Writer else zarr.open_group(tmp_path / "p", mode="r")
    for name, column in columns.items():
        assert found[name].dtype == column.dtype
        assert np.array_equal(found[name][:], column)
    assert [found[name].chunks for name in ("x", "y", "wide")] == [(2, 10), (20,), (1, 1, 20)]


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_names_of_arrays_are_checked(suffix: str) -> None:
    types = {"a": RowType((), np.dtype("f4")), "b/c": RowType((), np.dtype("f4"))}
    find_writer(f"p.{suffix}", types)
    for name in ("", ".", "x/../y", "/x", "x/", "b//d", "x\0y", "x" * 256, "zarr.json", "b", "a/x"):
        with pytest.raises(UsageError, match=r"cannot hold an array named .*Rename it with --postprocess"):
            find_writer(f"p.{suffix}", {**types, name: types["a"]})


def test_dimensions_have_names_of_their_own() -> None:
    types = {name: RowType(shape, np.dtype("f4")) for name, shape in {"row": (2, 3), "x": (5,), "x_0": ()}.items()}
    assert dimension_names(types) == {"row": ["row_", "row_0", "row_1"], "x": ["row_", "x_0_"], "x_0": ["row_"]}


def test_data_sets_of_hdf5_have_chunks(tmp_path: Path) -> None:
    with h5py.File(written(Hdf5Writer, tmp_path / "p.h5", x=ROWS, one=np.arange(4))) as file:
        assert (file["x"].chunks, file["one"].chunks) == ((4, 2, 3), (4,))
        assert np.array_equal(file["x"], ROWS)


def test_half_precision_is_single_in_parquet(tmp_path: Path) -> None:
    table = pa.parquet.read_table(written(ParquetWriter, tmp_path / "p.parquet", x=ROWS.astype("f2"), y=ROWS[:, 0, 0]))
    assert table.schema.field("x").type == lists(lists(pa.float32(), 3, "element"), 2, "element")
    assert table["x"].to_pylist() == ROWS.tolist()
    assert table.schema.field("y").type == pa.float64()


def test_nan_in_csv(tmp_path: Path) -> None:
    """Told from null, which is nothing, and from text."""
    values = np.array([0.5, np.nan, np.inf, 2])
    alone = written(CsvWriter, tmp_path / "p.csv", predictions=values)
    assert alone.read_text().splitlines() == ['"predictions"', "0.5", "NaN", "inf", "2"]
    ids = pa.array([1, None, 3, 4])
    cells = RowType(RAGGED, type_of_cells(ids.type)), to_cells(ids, type_of_cells(ids.type))
    weights = (
        RowType(RAGGED, type_of_cells(pa.float32())),
        to_cells(pa.array([np.nan, None, 1, 2], pa.float32()), type_of_cells(pa.float32())),
    )
    words = RowType(RAGGED, TEXT), ragged_text(["nan", 'a,nan,"b",nan', "\nnan\n", ""])
    beside = written(CsvWriter, tmp_path / "q.csv", id=cells, word=words, weight=weights, predictions=values)
    lines = [
        '"id","word","weight","predictions"',
        '1,"nan",NaN,0.5',
        ',"a,nan,""b"",nan",,NaN',
        '3,"',
        "nan",
        '",1,inf',
        '4,"",2,2',
    ]
    assert beside.read_text().splitlines() == lines
    frame = pd.read_csv(beside, keep_default_na=False, na_values={"id": ""}, dtype={"word": str})
    assert frame["word"].tolist() == ["nan", 'a,nan,"b",nan', "\nnan\n", ""]
    assert frame["weight"].tolist() == ["NaN", "", "1", "2"]
    frame = pd.read_csv(beside)
    assert (frame["predictions"].dtype, len(frame)) == (np.dtype("f8"), 4)


def test_feather_is_what_pandas_reads(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.list_(pa.int8()))
    cells = pa.array([[("a", [1, None])], None, [], [("b", None)]], kind)
    half = written(
        FeatherWriter,
        tmp_path / "p.feather",
        x=ROWS.astype("f2"),
        y=ROWS[:, 0, 0],
        text=(RowType(RAGGED, TEXT), ragged_text(["é", "", "b", "c"])),
        kept=(RowType(RAGGED, type_of_cells(kind)), to_cells(cells, type_of_cells(kind))),
    )
    table = pa.feather.read_table(half)
    assert table.schema.field("x").type == lists(lists(pa.float32(), 3), 2)
    assert table["x"].to_pylist() == ROWS.tolist()
    assert table["kept"].to_pylist() == cells.to_pylist()
    frame = pd.read_feather(half)
    assert frame["text"].tolist() == ["é", "", "b", "c"]
    assert frame["y"].tolist() == ROWS[:, 0, 0].tolist()
    found = open_source(f"{half}::x").read(1, 4)
    assert np.array_equal(found, ROWS[1:])  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["parquet", "feather", "jsonl", "csv"])
def test_complex_numbers_are_refused_before_any_work(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"cannot hold 'predictions', complex64 \(2,\) per row\. Give its real and imaginary"
    ):
        find_writer(f"p.{suffix}", RowType((2,), np.dtype("c8")))
    np.save(tmp_path / "d.npy", np.ones((3, 2), "c8"))
    command = ["--model", "zoo:Identity", "--data", "d.npy", "--output", f"p.{suffix}"]
    outcome = predict_here(*command, folder=tmp_path)
    assert (outcome.code, "Give its real and imaginary parts" in outcome.output) == (64, True)
    assert not (tmp_path / f"p.{suffix}.partial").exists()
    for other in ("plan", "doctor") if suffix == "parquet" else ():
        outcome = run_here(other, *command, folder=tmp_path)
        assert outcome.code != 0
        told = " ".join(outcome.output.split())  # lines are wrapped
        assert "Parquet cannot hold 'predictions', complex64 (2,) per row" in told
