"""Passthrough columns of any Arrow type: in the output as they are in the data, or refused before any work."""

import contextlib
import json
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.core.errors import InputError, UsageError
from runner.data.columns import types_by_name
from runner.data.rows import Ragged, RowType, texts_of
from runner.sinks import find_writer
from runner.sources import ReadOptions, open_source

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
ZONES = (None, "UTC", "Europe/Berlin", "+02:00")
TIMES = [pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
TIMES += [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in ZONES]
TIMES += [pa.duration(unit) for unit in ("s", "ms", "us", "ns")]
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
BYTES = [pa.binary(), pa.large_binary(), pa.binary_view()]
DECIMALS = [pa.decimal32(5, 2), pa.decimal64(10, 1), pa.decimal128(20, 3), pa.decimal256(50, 7)]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
OTHERS = [pa.null(), pa.bool_(), pa.binary(3), pa.month_day_nano_interval()]
LEAVES = [*INTEGERS, *TIMES, *TEXTS, *BYTES, *DECIMALS, *FLOATS, *OTHERS]
EXTENSIONS = [pa.uuid(), pa.bool8(), pa.json_()]
DICTIONARIES = [pa.dictionary(pa.int8(), kind) for kind in (pa.string(), pa.int64(), pa.date32(), pa.list_(pa.int8()))]
DAY = 86_400_000  # in ms


def types_of_columns() -> st.SearchStrategy[Any]:
    names = ["a", "b ä", "c.d"]

    def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            *(inner.map(make) for make in (pa.list_, pa.large_list, pa.list_view)),
            st.builds(pa.list_, inner, st.integers(1, 3)),
            several.map(lambda kinds: pa.struct(list(zip(names, kinds, strict=False)))),
            inner.map(lambda kind: pa.map_(pa.string(), kind)),
        )

    leaves = st.sampled_from([*LEAVES, *EXTENSIONS, *DICTIONARIES])
    return leaves | st.recursive(st.sampled_from([*LEAVES, *DICTIONARIES]), nested, max_leaves=4)


@st.composite
def arrays(draw: st.DrawFn, kind: Any, size: int, has_null: bool = True) -> Any:
    """An array of a type, with null in it, at any depth."""
    mask = draw(st.lists(st.booleans() if has_null else st.just(False), min_size=size, max_size=size))
    gaps = pa.array(mask, pa.bool_())
    if isinstance(kind, pa.BaseExtensionType):
        if kind == pa.json_():
            return pa.ExtensionArray.from_storage(kind, pa.array([None if gap else "{}" for gap in mask], pa.string()))
        return pa.ExtensionArray.from_storage(kind, draw(arrays(kind.storage_type, size)))
    if pa.types.is_dictionary(kind):
        words = draw(arrays(kind.value_type, 3, has_null=False))
        indices = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
        return pa.DictionaryArray.from_arrays(pa.array(indices, kind.index_type, mask=np.array(mask, bool)), words)
    if pa.types.is_struct(kind):
        columns = [draw(arrays(field.type, size)) for field in kind]
        return pa.StructArray.from_arrays(columns, fields=list(kind), mask=gaps)
    if pa.types.is_fixed_size_list(kind):
        inner = draw(arrays(kind.value_type, size * kind.list_size))
        return pa.FixedSizeListArray.from_arrays(inner, type=kind, mask=gaps)
    if pa.types.is_nested(kind):
        lengths = [0 if gap else draw(st.integers(0, 3)) for gap in mask]
        offsets = np.cumsum([0, *lengths])
        if pa.types.is_map(kind):
            keys = draw(arrays(kind.key_type, int(offsets[-1]), has_null=False))
            items = draw(arrays(kind.item_type, int(offsets[-1])))
            return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, items, type=kind, mask=gaps)
        inner = draw(arrays(kind.value_type, int(offsets[-1])))
        if pa.types.is_list_view(kind):
            starts = pa.array(offsets[:-1], pa.int32())
            return pa.ListViewArray.from_arrays(starts, pa.array(lengths, pa.int32()), inner, type=kind, mask=gaps)
        if pa.types.is_large_list(kind):
            return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), inner, type=kind, mask=gaps)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner, type=kind, mask=gaps)
    if pa.types.is_null(kind):
        return pa.nulls(size)
    found = [None if gap else draw(values(kind)) for gap in mask]
    if kind in TIMES:
        return pa.array(found, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    return pa.array(found, kind)


def values(kind: Any) -> st.SearchStrategy[Any]:
    if pa.types.is_time(kind):
        return st.integers(0, 86_399)
    if kind == pa.date64():
        return st.integers(-(10**5), 10**5).map(lambda day: day * DAY)
    if kind in TIMES:
        bound = 2 ** (kind.bit_width - 1) - 1
        return st.integers(-(10**5), 10**5) | st.integers(-bound, bound)
    if pa.types.is_integer(kind):
        signed = kind in INTEGERS[:4]
        return st.integers(-(2 ** (kind.bit_width - 1)) if signed else 0, 2 ** (kind.bit_width - signed) - 1)
    if pa.types.is_floating(kind):
        return st.floats(width=kind.bit_width).map(np.dtype(f"f{kind.bit_width // 8}").type)
    if kind in DECIMALS:
        return st.decimals(-999, 999, places=kind.scale)
    if kind in TEXTS:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    if pa.types.is_boolean(kind):
        return st.booleans()
    if kind == pa.month_day_nano_interval():
        return st.tuples(*[st.integers(-9, 9)] * 3).map(pa.MonthDayNano)
    width = kind.byte_width if pa.types.is_fixed_size_binary(kind) else None
    return st.binary(min_size=width or 0, max_size=width or 5)


@st.composite
def tables(draw: st.DrawFn) -> Any:
    size = draw(st.integers(1, 5))
    kinds = draw(st.lists(types_of_columns(), min_size=1, max_size=3))
    columns = [draw(arrays(kind, size)) for kind in kinds]
    return pa.table(columns, [f"c{index}" for index in range(len(columns))])


def plain(array: Any) -> list[Any]:
    """Every value, comparable: NaN, and times beyond Python's, among them."""
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in plain(chunk)]
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    kind = array.type
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if pa.types.is_struct(kind):
        rows = list(zip(*[plain(array.field(index)) for index in range(kind.num_fields)], strict=True))
        return [row if valid else None for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)]
    if pa.types.is_nested(kind):
        return [plain(value.values) if value.is_valid else None for value in array]
    if kind in TIMES:
        return plain(array.view(pa.int32() if kind.bit_width == 32 else pa.int64()))
    return [str(value) if isinstance(value, float) else value for value in array.to_pylist()]


def keep(data: str, names: list[str], output: str) -> None:
    """Do what a job does with passthrough columns, but for the model."""
    source = open_source(data, ["v"], names, options=ReadOptions(cells=tuple(names)))
    rows = source.read(0, source.num_rows)
    assert isinstance(rows, dict)
    kept = {name: kind for name, kind in types_by_name(source.row_type).items() if name != "v"}
    types = {**kept, "predictions": RowType((), np.dtype("f4"))}
    writer = find_writer(output, types)
    file = writer(output, types, source.num_rows)
    for row in range(source.num_rows):  # in several parts
        part = source.read(row, row + 1)
        assert isinstance(part, dict)
        file.write({**{name: part[name] for name in kept}, "predictions": np.full(1, row, "f4")})
    file.close()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tables(), st.sampled_from(["feather", "parquet"]), st.sampled_from(["feather", "parquet", "jsonl", "csv"]))
def test_what_is_kept_is_what_was_there(table: Any, data: str, output: str) -> None:
    names = table.column_names
    whole = table.append_column("v", pa.array(range(len(table)), pa.float32()))
    with tempfile.TemporaryDirectory() as folder:
        try:
            write(whole, f"{folder}/d.{data}")
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            return  # no such file
        theirs = read(f"{folder}/d.{data}").select(names)
        try:
            keep(f"{folder}/d.{data}", names, f"{folder}/p.{output}")
        except (InputError, UsageError):
            return
        if output in ("jsonl", "csv"):
            check_text(f"{folder}/p.{output}", theirs)
            return
        with contextlib.suppress(pa.ArrowNotImplementedError):  # of dictionaries of lists
            write(theirs, f"{folder}/theirs.{output}")  # Parquet has no seconds, and others in their place
            theirs = read(f"{folder}/theirs.{output}")
        found = read(f"{folder}/p.{output}").select(names)
        assert found.num_rows == len(table)
        for name in names:
            assert plain(found[name]) == plain(theirs[name]), (name, table.schema.field(name).type)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tables(), st.sampled_from(["feather", "parquet"]))
def test_what_the_model_gets_is_what_was_there(table: Any, data: str) -> None:
    """Or it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            write(table, f"{folder}/d.{data}")
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            return  # no such file
        for name in table.column_names:
            column = table[name]
            try:
                rows = open_source(f"{folder}/d.{data}", [name]).read(0, len(table))
            except (InputError, UsageError):
                assert column.null_count or column.type not in (*INTEGERS, *FLOATS, pa.string())
                continue
            if isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "biuf":
                values = column.to_numpy()
                assert np.array_equal(rows, values.astype(rows.dtype), equal_nan=rows.dtype.kind == "f"), column.type
            elif column.type == pa.string():
                assert isinstance(rows, Ragged)
                assert texts_of(rows) == column.to_pylist()


def write(table: Any, path: str) -> None:
    if path.endswith(".parquet"):
        pa.parquet.write_table(table, path)
        return
    with pa.OSFile(path, "wb") as storage, pa.ipc.new_file(storage, table.schema) as file:
        file.write_table(table)


def read(path: str) -> Any:
    return pa.parquet.read_table(path) if path.endswith(".parquet") else pa.feather.read_table(path)


def check_text(path: str, theirs: Any) -> None:
    """Compare what JSON and CSV have for themselves; that null is null, of all columns."""
    if path.endswith(".csv"):
        import pandas as pd

        assert len(pd.read_csv(path, keep_default_na=False)) == len(theirs)
        return
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file.read().split("\n") if line]
    assert [line["predictions"] for line in lines] == list(range(len(theirs)))
    for name in theirs.column_names:
        column = theirs[name]
        if column.type in (*INTEGERS, *TEXTS, pa.bool_()):
            assert [line[name] for line in lines] == column.to_pylist()
        if not pa.types.is_floating(column.type) and not isinstance(column.type, pa.BaseExtensionType):
            assert [line[name] is None for line in lines] == column.is_null().to_pylist(), name
