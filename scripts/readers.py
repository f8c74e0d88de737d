"""Programs that read outputs, and the comparison of what they find; for readers_check.py."""

import json
import math
from typing import Any

NUM_ROWS = 7
NUMBERS = ["half", "brain", "single", "double", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "flag"]
ARRAYS = ["vector", "matrix"]
TEXT = ["word"]
UNLIKE = ["unlike"]
KEPT = ["name", "number", "day", "when", "price", "tags"]
COLUMNS = {
    "npy": [*NUMBERS, *ARRAYS],
    "parquet": [*NUMBERS, *ARRAYS, *TEXT, *UNLIKE, *KEPT],
    "feather": [*NUMBERS, *ARRAYS, *TEXT, *UNLIKE, *KEPT],
    "jsonl": [*NUMBERS, *ARRAYS, *TEXT, *UNLIKE, *KEPT],
    "csv": [*NUMBERS, "vector", *TEXT, *KEPT],
    "h5": [*NUMBERS, *ARRAYS, *TEXT, *UNLIKE],
    "nc": [*NUMBERS, *ARRAYS, *TEXT],
    "zarr": [*NUMBERS, *ARRAYS],
}


def plain(value: Any) -> Any:
    """Return a value as JSON has it, equal for equal values of whatever library."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "isoformat"):
        if getattr(value, "tzinfo", None) is not None:
            import datetime

            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        return value.isoformat().removesuffix("T00:00:00")
    return str(value)


def same(found: Any, expected: Any, name: str, is_text: bool) -> bool:
    """Return whether a value is the expected one; of single precision where it is, in texts, too."""
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(same(a, b, name, is_text) for a, b in zip(found, expected, strict=True))
        )
    if expected is None and found == "nan":  # which pandas has for null
        return True
    if is_text and found is None and expected in ("nan", "inf", "-inf"):  # JSON has no such numbers
        return name != "word"
    if isinstance(expected, int) and isinstance(found, str):  # a decimal, of DuckDB
        return found == str(expected)
    if isinstance(found, float | int) and isinstance(expected, float) and name != "double":
        import numpy as np

        return bool(np.float32(found) == np.float32(expected))
    if is_text and isinstance(expected, str) and isinstance(found, str):
        return found.replace("Z", "").replace(" ", "T") == expected or found == expected
    if is_text and name == "price" and expected is not None:
        return float(found) == float(expected)
    return bool(found == expected)


def table_readers() -> dict[str, dict[str, Any]]:
    """Return functions from a path to columns by name, by format of tables and reader."""
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow.csv
    import pyarrow.feather
    import pyarrow.json
    import pyarrow.parquet

    def frame(read: Any) -> Any:
        return lambda path: {str(n): c.tolist() for n, c in read(path).items()}

    def in_duckdb(path: str) -> Any:
        table = f"read_csv('{path}', allow_quoted_nulls=false)" if path.endswith(".csv") else f"'{path}'"
        return duckdb.sql(f"SELECT * FROM {table}").to_arrow_table().to_pydict()

    spark = None

    def in_spark(path: str) -> Any:
        nonlocal spark
        from pyspark.sql import SparkSession

        spark = (
            spark or SparkSession.builder.master("local[1]").config("spark.ui.showConsoleProgress", False).getOrCreate()
        )
        kinds = {"parquet": spark.read.parquet, "jsonl": spark.read.json}
        data = kinds[path.rpartition(".")[2]](path)
        return {name: [row[name] for row in data.collect()] for name in data.columns}

    polars = {"parquet": pl.read_parquet, "feather": pl.read_ipc, "jsonl": pl.read_ndjson, "csv": pl.read_csv}
    arrow = {"parquet": pyarrow.parquet.read_table, "feather": pyarrow.feather.read_table}
    arrow |= {"jsonl": pyarrow.json.read_json}
    found: dict[str, dict[str, Any]] = {suffix: {} for suffix in COLUMNS}
    pandas = {"parquet": pd.read_parquet, "feather": pd.read_feather}
    pandas["jsonl"] = lambda path: pd.read_json(path, lines=True, dtype=False, precise_float=True)
    missing = {name: ["", "NaN"] for name in ("half", "brain", "single", "vector_0", "vector_1", *KEPT)}
    missing["name"] = []
    texts = {"name": str, "word": str}
    pandas["csv"] = lambda path: pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=missing)
    for suffix, read in pandas.items():
        found[suffix]["pandas"] = frame(read)
    for suffix, read in polars.items():
        found[suffix]["polars"] = lambda path, read=read: read(path).to_dict(as_series=False)
    for suffix, read in arrow.items():
        found[suffix]["pyarrow"] = lambda path, read=read: read(path).to_pydict()
    for suffix in ("parquet", "jsonl", "csv"):
        found[suffix]["DuckDB"] = in_duckdb
    for suffix in ("parquet", "jsonl"):
        found[suffix]["Spark"] = in_spark
    return found


def array_readers() -> dict[str, dict[str, Any]]:
    """Return functions from a path to columns by name, by format of arrays and reader."""
    import h5py
    import netCDF4
    import numpy as np
    import xarray as xr
    import zarr

    def in_hdf5(path: str) -> Any:
        with h5py.File(path) as file:
            return {name: list(file[name]) for name in file if name.split("_")[0] in COLUMNS["h5"] and "_" not in name}

    def in_netcdf(path: str) -> Any:
        with netCDF4.Dataset(path) as file:
            return {name: np.ma.getdata(variable[:]) for name, variable in file.variables.items()}

    def datasets(**options: Any) -> Any:
        return lambda path: {str(n): v.values for n, v in xr.open_dataset(path, **options).variables.items()}

    found: dict[str, dict[str, Any]] = {suffix: {} for suffix in COLUMNS}
    found["npy"]["numpy"] = lambda path: {n: np.load(path)[n] for n in np.load(path).dtype.names}
    found["h5"]["h5py"] = found["nc"]["h5py"] = in_hdf5
    found["nc"] |= {"netCDF4": in_netcdf, "xarray": datasets(), "xarray, h5netcdf": datasets(engine="h5netcdf")}
    found["zarr"]["xarray"] = datasets(engine="zarr", consolidated=False)
    found["zarr"]["zarr"] = lambda path: {n: a[:] for n, a in zarr.open_group(path, mode="r").arrays()}
    return found


def differences(columns: dict[str, list[Any]], expected: dict[str, list[Any]], suffix: str) -> list[str]:
    """Return the names of the columns that differ, with the first such values."""
    if suffix == "csv":
        columns["vector"] = [list(row) for row in zip(*[columns[f"vector_{axis}"] for axis in range(3)], strict=True)]
        columns["tags"] = [value and json.loads(value) if value != "nan" else None for value in columns["tags"]]
    found = []
    for name in COLUMNS[suffix]:
        pairs = list(zip(columns.get(name, [None] * NUM_ROWS), expected[name], strict=True))
        unlike = [pair for pair in pairs if not same(*pair, name, suffix in ("csv", "jsonl"))]
        found += [f"{name}: {unlike[0][0]!r}, not {unlike[0][1]!r}"] if unlike else []
    return found
