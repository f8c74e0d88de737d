"""Every output format with every kind of column: written, or refused before any work with advice."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runner.core.errors import UsageError
from runner.data.cells import to_cells, type_of_cells
from runner.data.columns import joined
from runner.data.rows import RAGGED, TEXT, Column, RowType, ragged, ragged_text
from runner.sinks import find_writer

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"]
SUFFIXES = ["npy", "parquet", "feather", "jsonl", "csv", "tsv", "h5", "nc", "zarr", "npy/", "png/"]
LISTS = [np.ones((0,)), np.ones(3), np.ones(1)]


def cells(values: list[Any], kind: Any) -> tuple[RowType, Column]:
    dtype = type_of_cells(kind)
    return RowType(RAGGED, dtype), to_cells(pa.array(values, kind), dtype)


def kinds() -> dict[str, tuple[RowType, Column]]:
    found: dict[str, tuple[RowType, Column]] = {}
    for dtype in map(np.dtype, DTYPES):
        for shape in ((), (2,), (3, 2), (0,)):
            found[f"{dtype} {shape}"] = RowType(shape, dtype), np.ones((3, *shape), dtype)
        found[f"{dtype} unlike"] = RowType((-1,), dtype), ragged(LISTS, dtype)
    found["vectors unlike"] = (
        RowType((-1, 2), np.dtype("f4")),
        ragged([np.ones((n, 2)) for n in (0, 2, 1)], np.dtype("f4")),
    )
    found["text"] = RowType(RAGGED, TEXT), ragged_text(["a", "b", ""])
    for kind, value in {
        pa.int64(): 1,
        pa.string(): "x",
        pa.binary(): b"x",
        pa.date32(): 1,
        pa.timestamp("ns", "UTC"): 1,
        pa.decimal128(5, 2): 1,
        pa.list_(pa.int8()): [1],
        pa.struct([("a", pa.list_(pa.string()))]): {"a": ["b"]},
        pa.map_(pa.string(), pa.int8()): [("a", 1)],
        pa.duration("s"): 1,
        pa.null(): None,
    }.items():
        found[f"kept {kind}"] = cells([value, None, value], kind)
    return found


KINDS = kinds()
COMPLEX = {name for name in KINDS if name.startswith("complex")}
UNLIKE = {name for name in KINDS if name.endswith("unlike")}
KEPT = {name for name in KINDS if name.startswith("kept")}
EMPTY = {name for name in KINDS if name.endswith("(0,)")}
NESTED = {name for name in KINDS if "(3, 2)" in name}
REFUSED: dict[str, set[str]] = {
    "npy": UNLIKE | {"text"},
    "parquet": COMPLEX | EMPTY,
    "feather": COMPLEX | EMPTY,
    "jsonl": COMPLEX,
    "csv": COMPLEX | EMPTY | UNLIKE | NESTED,
    "tsv": COMPLEX | EMPTY | UNLIKE | NESTED,
    "h5": {"vectors unlike"},
    "nc": COMPLEX | UNLIKE,
    "zarr": UNLIKE | {"text"},
    "npy/": {"text"},
    "png/": KINDS.keys() - {name for name in NESTED if name.split()[0][:3] in ("int", "uin", "boo")},
}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_kind_is_written_or_refused(suffix: str, tmp_path: Path) -> None:
    refused, advice = set(), []
    holds_cells = suffix in ("parquet", "feather", "jsonl", "csv", "tsv")
    for index, (name, (row_type, column)) in enumerate(KINDS.items()):
        if name in KEPT and not holds_cells:
            continue
        types = joined({"x": row_type}) if row_type.is_ragged else row_type
        output = f"{tmp_path}/{index}.{suffix}"
        try:
            writer = find_writer(output, types)
        except UsageError as error:
            refused.add(name)
            advice.append(str(error))
            continue
        if writer is not None:
            file = writer(output.rstrip("/"), {"x": row_type}, 3)
            file.write({"x": column})
            file.close()
            assert Path(output).exists()
    assert [a for a in advice if not re.search(r"\.parquet|--postprocess|of one output", a)] == []
    assert refused == REFUSED[suffix] - (set() if holds_cells else KEPT)


def test_columns_of_csv_have_names_of_their_own() -> None:
    types = {"x": RowType((2,), np.dtype("f4")), "x_1": RowType((), np.dtype("f4"))}
    with pytest.raises(
        UsageError, match=r"two columns of CSV would have the name 'x_1'\. Rename one with --postprocess"
    ):
        find_writer("p.csv", types)
