"""Delta tables: the rows that deltalake reads, and tables whose files hold others."""

import datetime
import json
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from runner.core.errors import InputError
from runner.data.tensors import as_batch
from runner.sources import ReadOptions, open_source

NUM_ROWS = 20
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def make_table(path: Path) -> DeltaTable:
    """A table of two writes with some rows deleted, in folders whose names need escapes."""
    for first in (0, NUM_ROWS):
        rows = range(first, first + NUM_ROWS)
        columns = {
            "id": pa.array(rows, pa.int32()),
            "x": [row / 2 for row in rows],
            "kind": ["a b/c%" if row % 2 else "ü" for row in rows],
            "year": pa.array([2020 + row % 3 for row in rows], pa.int64()),
            "day": [datetime.date(2026, 1, 1 + row % 2) for row in rows],
        }
        write_deltalake(path, pa.table(columns), mode="append", partition_by=["kind", "year", "day"])
    DeltaTable(path).delete("id % 5 = 3")
    return DeltaTable(path)


def test_rows_are_those_of_the_latest_version(tmp_path: Path) -> None:
    path = tmp_path / "t"
    table = make_table(path)
    expected = sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: row["id"])
    source: Any = open_source(str(path), ["year", "x", "kind"], ["day", "id"], options=ReadOptions(cells=["day"]))
    source.use([source.scan(part, 2) for part in range(2)])
    assert source.notes == []
    assert source.num_rows == len(expected) == 2 * NUM_ROWS - 8
    assert list(source.row_type) == ["year", "x", "kind", "day", "id"]
    columns = as_batch({name: column for name, column in source.read(0, source.num_rows).items() if name != "day"})
    rows = sorted(zip(*map(list, columns.values()), strict=True), key=lambda row: row[3])
    assert rows == [(row["year"], row["x"], row["kind"], row["id"]) for row in expected]
    some = as_batch(source.read(5, 17)["x"])
    assert some.tolist() == columns["x"][5:17].tolist()
    one = open_source(f"{path}::x")
    assert as_batch(one.read(0, one.num_rows)).tolist() == columns["x"].tolist()
    with pytest.raises(InputError, match="year, kind are of the table's partitions alone"):
        open_source(str(path), ["year", "kind"])
    with pytest.raises(InputError, match=r"has no column 'z'; it has id, x, kind, year, day"):
        open_source(str(path), ["z"])
    digest = one.digest()
    assert open_source(f"{path}::x").digest() == digest
    table.update_incremental()
    write_deltalake(path, table.to_pyarrow_table().slice(0, 0), mode="append")  # another version of the same rows
    assert open_source(f"{path}::x").digest() != digest


def log(path: Path, version: int, *actions: dict[str, Any]) -> None:
    (path / f"_delta_log/{version:020d}.json").write_text("\n".join(map(json.dumps, actions)))


def protocol(*features: str) -> dict[str, Any]:
    names = {"readerFeatures": features, "writerFeatures": features}
    return {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **names}}


def test_tables_whose_files_hold_other_rows_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_deltalake(path, pa.table({"x": list(range(10))}))
    first = (path / "_delta_log/00000000000000000000.json").read_text().splitlines()
    add = next(action["add"] for action in map(json.loads, first) if "add" in action)
    log(path, 1, protocol("deletionVectors"))
    assert open_source(str(path)).num_rows == 10  # none of its files has one
    bitmap = struct.pack("<IQIIIHHIH", 1681511377, 1, 0, 12346, 1, 0, 0, 16, 3) + bytes(2)  # row 3
    numbers = [number for (number,) in struct.iter_unpack(">I", bitmap)]
    inline = "".join(_Z85[number // 85**power % 85] for number in numbers for power in range(4, -1, -1))
    vector = {"storageType": "i", "pathOrInlineDv": inline, "sizeInBytes": 34, "cardinality": 1}
    log(path, 2, {"remove": {"path": add["path"], "dataChange": True}}, {"add": {**add, "deletionVector": vector}})
    with pytest.raises(InputError, match=r"deletion vectors, which mark rows of 1 of its files as deleted.*PURGE"):
        open_source(str(path))
    log(path, 2, protocol("typeWidening"))
    with pytest.raises(InputError, match="is a Delta table with typeWidening, which is not read"):
        open_source(str(path))
    log(path, 2, {"remove": {"path": add["path"], "dataChange": True}})
    with pytest.raises(InputError, match="version 2 of this Delta table has no files"):
        open_source(str(path))
    log(path, 2, {})
    (path / "_delta_log/00000000000000000002.json").write_text('{"add": {"pa')
    with pytest.raises(InputError, match="cannot be read as a Delta table"):
        open_source(str(path))
    (path / "_delta_log/00000000000000000002.json").unlink()
    data = path / add["path"]
    data.write_bytes(data.read_bytes()[:-9])
    with pytest.raises(InputError, match=add["path"]):
        open_source(str(path))
