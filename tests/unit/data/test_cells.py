"""Cells: every type of Arrow comes out as it went in."""

import datetime
import decimal
import pickle
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runner.data.cell_types import arrow_type, cell_name
from runner.data.cells import from_cells, to_cells, type_of_cells
from runner.data.columns import fill, pack, unpack
from runner.data.json_cells import json_values
from runner.data.rows import RAGGED, TEXT, Ragged, RowType, dtype_from_json, dtype_to_json, take_column, texts_of

DAY = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)
COLUMNS: dict[str, Any] = {
    "integers": pa.array([1, None, -3], pa.int16()),
    "numbers": pa.array([0.5, None, float("nan")]),
    "half": pa.array([0.5, None, 2], pa.float16()),
    "bool": pa.array([True, None, False]),
    "dates": pa.array([DAY.date(), None, DAY.date()]),
    "times": pa.array([DAY, None, DAY], pa.timestamp("us", "America/New_York")),
    "nanoseconds": pa.array([1, None, 3], pa.timestamp("ns")),
    "of the day": pa.array([1, None, 3], pa.time32("s")),
    "durations": pa.array([1, None, 3], pa.duration("ms")),
    "decimals": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("-3.00")]),
    "wide decimals": pa.array([decimal.Decimal("1.10"), None, None], pa.decimal256(60, 2)),
    "text": pa.array(["a", None, ""]),
    "large text": pa.array(["ü", None, ""], pa.large_string()),
    "text views": pa.array(["ü", None, "x" * 40], pa.string_view()),
    "bytes": pa.array([b"\xff", None, b""]),
    "ids": pa.array([uuid.UUID(int=7).bytes, None, uuid.UUID(int=8).bytes], pa.uuid()),
    "lists": pa.array([["a", None], None, []]),
    "vectors": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int8(), 2)),
    "structs": pa.array([{"p": 1, "q": [0.5]}, None, {"p": None, "q": []}]),
    "maps": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int8())),
    "categories": pa.array(["u", None, "u"]).dictionary_encode(),
    "nothing": pa.nulls(3),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_out_as_it_went_in(name: str) -> None:
    column = COLUMNS[name]
    dtype = type_of_cells(column.type)
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    for start, stop in ((0, 3), (1, 3), (2, 3), (1, 1)):
        cells = to_cells(column.slice(start, stop - start), dtype)
        found = from_cells(cells)
        found.validate(full=True)
        assert found.type == plain.type == arrow_type(dtype)
        assert repr(found.to_pylist()) == repr(plain.slice(start, stop - start).to_pylist())
    cells = to_cells(column, dtype)
    sent = dtype_from_json(dtype_to_json(pickle.loads(pickle.dumps(dtype))))
    packed = unpack(pack({"x": cells}), {"x": RowType(RAGGED, sent)}, 3)["x"]
    assert repr(from_cells(take_column(packed, [2, 0])).to_pylist()) == repr([plain[2].as_py(), plain[0].as_py()])  # type: ignore[arg-type]
    assert from_cells(fill(cells, [0])).to_pylist()[:2] == [None, None]  # type: ignore[arg-type]
    assert cell_name(dtype) == f"{plain.type} or null"


def test_categories_inside_of_lists_and_structs() -> None:
    names = pa.array(["u", "v", "u"]).dictionary_encode()
    for column in (pa.ListArray.from_arrays([0, 2, 3], names), pa.StructArray.from_arrays([names], ["x"])):
        found = from_cells(to_cells(column, type_of_cells(column.type)))
        assert found.to_pylist() == column.to_pylist()
        assert "dictionary" not in str(found.type)


def test_json_has_dates_and_decimals_as_text() -> None:
    found = {name: json_values(to_cells(column, type_of_cells(column.type))) for name, column in COLUMNS.items()}
    assert found["numbers"] == [0.5, None, None]
    assert found["dates"] == ["2026-01-02", None, "2026-01-02"]
    assert found["times"][0] == "2026-01-01T22:04:05.000006-0500"
    assert found["nanoseconds"][0] == "1970-01-01T00:00:00.000000001"
    assert found["decimals"] == ["1.10", None, "-3.00"]
    assert found["bytes"] == ["/w==", None, ""]
    assert found["ids"][0] == "00000000-0000-0000-0000-000000000007"
    assert found["structs"] == [{"p": 1, "q": [0.5]}, None, {"p": None, "q": []}]
    assert found["maps"] == [[["a", 1]], None, []]


def test_a_null_with_bytes_of_its_own_stays_apart() -> None:
    buffers = [pa.py_buffer(b"\x05"), pa.py_buffer(np.array([0, 1, 3, 4], np.int32)), pa.py_buffer(b"axyb")]
    column = pa.Array.from_buffers(pa.string(), 3, buffers)
    assert column.to_pylist() == ["a", None, "b"]
    assert from_cells(to_cells(column, type_of_cells(column.type))).to_pylist() == ["a", None, "b"]


def test_rows_are_taken_in_any_order() -> None:
    rows = [b"", b"abc", b"d", b"", b"ef"]
    column = Ragged(np.frombuffer(b"".join(rows), TEXT), np.cumsum([0, *map(len, rows)]))
    for indices in ([], [2], [1, 2, 3], [4, 1, 1, 0], np.array([3, 4])):
        taken = take_column(column, indices)
        assert isinstance(taken, Ragged)
        assert texts_of(taken) == [rows[index].decode() for index in indices]
        assert taken.values.dtype == TEXT


def test_dictionaries_and_times_at_any_depth() -> None:
    words = pa.dictionary(pa.int8(), pa.string())
    found = pa.array([[("a", "x")], None, [("b", None)]], pa.map_(pa.string(), pa.string()))
    encoded = pa.MapArray.from_arrays(found.offsets, found.keys, found.items.dictionary_encode(), mask=found.is_null())
    kept = from_cells(to_cells(encoded, type_of_cells(encoded.type)))
    assert (kept.type, kept.to_pylist()) == (found.type, found.to_pylist())
    for kind in (pa.list_view(words), pa.list_(pa.dictionary(pa.int8(), pa.list_(pa.int8())))):
        with pytest.raises(ValueError, match="cannot be decoded"):
            type_of_cells(kind)
    late = pa.array([[253_402_300_800, None], None], pa.list_(pa.timestamp("s", "UTC")))
    assert json_values(to_cells(late, type_of_cells(late.type))) == [["10000-01-01T00:00:00Z", None], None]
    span = pa.array([pa.MonthDayNano([1, 2, 3]), None])
    assert json_values(to_cells(span, type_of_cells(span.type))) == [[1, 2, 3], None]
