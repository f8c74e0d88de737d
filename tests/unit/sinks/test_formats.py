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
from runner.data.rows import RAGGED, TEXT, RowType, ragged_text
from runner.sinks import find_writer
from runner.sinks.csv import CsvWriter
from runner.sinks.feather import FeatherWriter
from runner.sinks.hdf5 import Hdf5Writer
from runner.sinks.parquet import ParquetWriter
from runner.sinks.zarr import ZarrWriter
from runner.sources import open_source

ROWS = np.arange(24.0).reshape(4, 2, 3)


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


def test_data_sets_of_hdf5_have_chunks(tmp_path: Path) -> None:
    with h5py.File(written(Hdf5Writer, tmp_path / "p.h5", x=ROWS, one=np.arange(4))) as file:
        assert (file["x"].chunks, file["one"].chunks) == ((4, 2, 3), (4,))
        assert np.array_equal(file["x"], ROWS)


def test_half_precision_is_single_in_parquet(tmp_path: Path) -> None:
    table = pa.parquet.read_table(written(ParquetWriter, tmp_path / "p.parquet", x=ROWS.astype("f2"), y=ROWS[:, 0, 0]))
    assert table.schema.field("x").type == pa.list_(pa.list_(pa.float32(), 3), 2)
    assert table["x"].to_pylist() == ROWS.tolist()
    assert table.schema.field("y").type == pa.float64()


def test_nan_in_csv(tmp_path: Path) -> None:
    """Alone in a line, nothing would be no row; beside a passthrough column it is what null is."""
    values = np.array([0.5, np.nan, np.inf, 2])
    alone = written(CsvWriter, tmp_path / "p.csv", predictions=values)
    assert alone.read_text().splitlines() == ['"predictions"', "0.5", "NaN", "inf", "2"]
    ids = pa.array([1, None, 3, 4])
    cells = RowType(RAGGED, type_of_cells(ids.type)), to_cells(ids, type_of_cells(ids.type))
    beside = written(CsvWriter, tmp_path / "q.csv", id=cells, predictions=values)
    assert beside.read_text().splitlines() == ['"id","predictions"', "1,0.5", ",", "3,inf", "4,2"]
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
    assert table.schema.field("x").type == pa.list_(pa.list_(pa.float32(), 3), 2)
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
