"""Outputs in every format, and whether the programs that people open them with find every value in them.

    python scripts/readers_check.py [--python PYTHON] [--folder FOLDER]

writes the outputs of one model, with passthrough columns, and reads them in a virtual environment of its own with the
libraries below, which it makes in FOLDER; or in that of PYTHON. CI does not run it. It prints a row for each format and
reader, and ends with 1 where a value differs that is not known to. Spark needs Java.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from readers import COLUMNS, KEPT, NUM_ROWS, TEXT, UNLIKE, array_readers, differences, plain, table_readers

KNOWN = {("jsonl", "pandas"), ("jsonl", "pyarrow"), ("csv", "pandas")}  # docs/outputs.md says how they differ
LIBRARIES = [
    "dask==2026.8.0",
    "duckdb==2.0.1",
    "h5netcdf==1.8.2",
    "h5py==3.16.0",
    "netCDF4==1.7.5.1.post1",
    "numpy==2.4.6",
    "pandas==3.1.1",
    "polars==2.1.0",
    "pyarrow==26.0.1",
    "pyspark==4.3.0",
    "xarray==2026.9.0",
    "zarr==3.1.6",
]


def write(folder: Path) -> None:
    """Write the outputs, and the values that are to be found in them."""
    import datetime
    import decimal

    import pyarrow as pa
    import pyarrow.parquet

    import runner

    day = datetime.date(2026, 1, 2)
    kept = {
        "name": pa.array(["a", None, "", "007", "ä\nb", 'x,"y"', "nan"]),
        "number": pa.array([1, None, 3, 4, 5, 6, 7], pa.int32()),
        "day": pa.array([day, None] + [day] * 5),
        "when": pa.array(
            [datetime.datetime(2026, 1, 2, 3, 4, 5, 678_901), None] * 3 + [None], pa.timestamp("us", "UTC")
        ),
        "price": pa.array([decimal.Decimal("1.10"), None] * 3 + [None], pa.decimal128(9, 2)),
        "tags": pa.array([["a", None], None, [], ["b"]] + [None] * 3),
    }
    table = pa.table({"x": pa.array([float(row) for row in range(NUM_ROWS)], pa.float32()), **kept})
    pa.parquet.write_table(table, folder / "d.parquet")
    expected: dict[str, list[Any]] = {name: [plain(value) for value in kept[name].to_pylist()] for name in KEPT}
    for suffix, names in COLUMNS.items():
        columns = [name for name in names if name not in KEPT]
        keep = [name for name in names if name in KEPT]
        model = make_model(columns)
        options = {
            "model": lambda model=model: model,
            "data": str(folder / "d.parquet"),
            "columns": ["x"],
            "keep": keep,
        }
        runner.predict(**options, output=str(folder / f"p.{suffix}"), batch_size=3)
        for name, value in model(torch_rows()).items():
            expected[name] = [plain(row) for row in (value.tolist() if name not in UNLIKE + TEXT else value)]
    expected["unlike"] = [plain(row.tolist()) for row in expected_lists()]
    (folder / "expected.json").write_text(json.dumps(expected))


def torch_rows() -> Any:
    import torch

    return torch.arange(NUM_ROWS, dtype=torch.float32)


def expected_lists() -> list[Any]:
    rows = torch_rows()
    return [rows[: int(row) % 3] / 7 for row in rows]


def make_model(names: list[str]) -> Any:
    """Return a module that answers the outputs of these names; it is the same for a row whatever the batch."""
    import torch
    from torch import nn

    integers = {"i1": torch.int8, "i2": torch.int16, "i4": torch.int32, "i8": torch.int64}
    integers |= {"u1": torch.uint8, "u2": torch.uint16, "u4": torch.uint32, "u8": torch.uint64}

    class Kinds(nn.Module):
        def forward(self, rows: torch.Tensor) -> dict[str, Any]:
            third = rows / 3
            third = torch.where(rows == 2, torch.nan, torch.where(rows == 3, torch.inf, third))
            found: dict[str, Any] = {
                "half": third.half(),
                "brain": third.bfloat16(),
                "single": third,
                "double": rows.double() / 3,
                "flag": rows % 2 == 0,
                "vector": torch.stack([third, -third, rows], dim=1),
                "matrix": torch.stack([rows, rows / 7, -rows, rows * 0], dim=1).reshape(-1, 2, 2),
                "word": [f"möglich {int(row)}" * (int(row) % 2) for row in rows],
                "unlike": torch.nested.nested_tensor(
                    [row.expand(int(row) % 3) * 0 + torch.arange(int(row) % 3) / 7 for row in rows]
                ),
            }
            for name, dtype in integers.items():
                found[name] = (torch.iinfo(dtype).max - rows.long()).to(dtype)
            return {name: found[name] for name in names}

    return Kinds()


def read(folder: Path) -> int:
    """Read each output by each reader, print what differs, and return the number of readers for which something did."""
    expected, wrong = json.loads((folder / "expected.json").read_text()), 0
    tables, arrays = table_readers(), array_readers()
    for suffix, by in {suffix: tables[suffix] | arrays[suffix] for suffix in COLUMNS}.items():
        for reader, function in by.items():
            try:
                columns = {
                    name: [plain(value) for value in column]
                    for name, column in function(str(folder / f"p.{suffix}")).items()
                }
            except Exception as error:
                columns, words = {}, f"{type(error).__name__}: {str(error)[:200]}"
            else:
                words = ", ".join(differences(columns, expected, suffix))
            wrong += bool(words) and (suffix, reader) not in KNOWN
            print(f"| .{suffix} | {reader} | {words or 'every value'} |", flush=True)
    return wrong


def main() -> int:
    """Write and read, or read alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    if options.read:
        return int(read(folder) > 0)
    write(folder)
    python = options.python
    if python is None:
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv/bin/python"
        subprocess.run([python, "-m", "pip", "install", "-q", *LIBRARIES], check=True)
    return subprocess.run([python, __file__, "--read", "--folder", folder], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
