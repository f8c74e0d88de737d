"""Whatever the shapes, dtypes, lengths and cuts: what is written is what is read."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import nn

import runner
from runner.data.columns import pack, unpack
from runner.data.rows import RAGGED, TEXT, Column, Ragged, RowType, ragged, ragged_text, slice_column, take_column
from runner.sinks.arrow import TableWriter
from runner.sinks.feather import FeatherWriter
from runner.sinks.parquet import ParquetWriter
from runner.sources import ReadOptions, open_source

NUMBERS = st.sampled_from(["<f4", "<f8", "<i8", "<i2", "|u1", "|b1"]).map(np.dtype)


@st.composite
def columns_of(draw: st.DrawFn, num_rows: int) -> Column:
    """A column of numbers, of vectors, of lists of unlike lengths, or of text."""
    kind = draw(st.sampled_from(["fixed", "ragged", "text"]))
    if kind == "text":
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
        return ragged_text(draw(st.lists(texts, min_size=num_rows, max_size=num_rows)))
    dtype = draw(NUMBERS)
    elements = npst.from_dtype(dtype, allow_nan=False)
    if kind == "fixed":
        shape = (num_rows, *draw(st.lists(st.integers(1, 3), max_size=2)))
        return draw(npst.arrays(dtype, shape, elements=elements))
    lengths = draw(st.lists(st.integers(0, 4), min_size=num_rows, max_size=num_rows))
    return ragged([draw(npst.arrays(dtype, length, elements=elements)) for length in lengths], dtype)


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, dict[str, Column]]:
    """Some rows of one to three columns."""
    num_rows = draw(st.integers(1, 12))
    names = ["a", "ä b", "c"][: draw(st.integers(1, 3))]
    return num_rows, {name: draw(columns_of(num_rows)) for name in names}


def type_of(column: Column) -> RowType:
    if isinstance(column, Ragged):
        return RowType(RAGGED, column.values.dtype)
    return RowType(column.shape[1:], column.dtype)


def assert_equal(found: Column, wanted: Column) -> None:
    if isinstance(wanted, Ragged):
        assert isinstance(found, Ragged)
        assert found.lengths.tolist() == wanted.lengths.tolist()
        found, wanted = found.values, wanted.values
    assert found.dtype == wanted.dtype
    assert found.tobytes() == wanted.tobytes()


@settings(deadline=None, max_examples=100)
@given(tables(), st.randoms(), st.sampled_from([ParquetWriter, FeatherWriter]))
def test_what_is_packed_and_what_is_in_arrow_tables(
    table: tuple[int, dict[str, Column]], random: Any, writer_type: type[TableWriter]
) -> None:
    num_rows, columns = table
    types = {name: type_of(column) for name, column in columns.items()}
    for name, column in unpack(pack(columns), types, num_rows).items():
        assert_equal(column, columns[name])
    with tempfile.TemporaryDirectory() as folder:
        path, cut = f"{folder}/d.{writer_type.format_name.lower()}", random.randint(0, num_rows)
        writer = writer_type(path, types, num_rows)
        for first, last in ((0, cut), (cut, num_rows)):
            writer.write({name: slice_column(column, first, last) for name, column in columns.items()})
        writer.close()
        lists = {name: "list" for name, kind in types.items() if kind.is_ragged and kind.dtype != TEXT}
        source = open_source(path, list(columns), options=ReadOptions(types=lists))
        start = random.randint(0, num_rows - 1)
        stop = random.randint(start + 1, num_rows)
        found = source.read(start, stop)
        named = found if isinstance(found, dict) else {next(iter(columns)): found}
        for name, column in columns.items():
            assert_equal(named[name], take_column(column, range(start, stop)))
            assert type_of(named[name]).dtype == TEXT or type_of(named[name]) == types[name]


class Same(nn.Module):
    """The rows, and how many are in their batch."""

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"rows": rows, "batch": torch.full((len(rows),), len(rows))}


@settings(deadline=None, max_examples=40)
@given(
    rows=npst.arrays(NUMBERS, npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=20)).filter(
        lambda rows: rows.size or not len(rows)  # rows that hold nothing are refused
    ),
    batch_size=st.integers(1, 9),
    batches=st.integers(1, 4),
    suffix=st.sampled_from(["", ".npy"]),
)
def test_every_row_goes_through_in_a_batch_of_its_own(
    rows: np.ndarray, batch_size: int, batches: int, suffix: str
) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        output = str(Path(folder) / f"p{suffix}") if suffix else None
        options = {"batch_size": batch_size, "chunk_size": batch_size * batches, "threads": 1}
        report = runner.predict(model=Same, data=rows, output=output, **options)
        found = np.load(output) if output else report.predictions
    assert report.status == "whole"
    assert found["rows"].tobytes() == rows.tobytes()
    sizes = [min(batch_size, len(rows) - row // batch_size * batch_size) for row in range(len(rows))]
    assert found["batch"].tolist() == sizes
