"""Reading alone: `read.py [--rows 1000000] [--repeats 3] [--formats NAME ...]`, in a temporary folder.

Rows of an id, a number, and a vector of eight (in CSV eight columns), in each format as its library writes it, read
from the first to the last in batches of 1,024; beside the fastest loop of the library's own that gives the same values
as NumPy arrays. Prints a Markdown table: rows a second, the ratio, and how much memory grew while the rows were read.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import scipy.io
import zarr
from astropy.io import fits

from runner.sources import open_source

BATCH = 1024


def rss() -> int:
    """Resident memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) << 10


def table(rows: int) -> pa.Table:
    """The rows; ids, whole numbers and single precision."""
    rng = np.random.default_rng(0)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.random(rows * 8, np.float32)), 8)
    return pa.table({"id": np.arange(rows), "x": rng.random(rows), "v": vectors})


def arrays_of(batch: Any) -> list[np.ndarray]:
    """The columns of a piece of an Arrow table, as a user would get them."""
    found = []
    for given in batch.columns:
        column = given.combine_chunks() if isinstance(given, pa.ChunkedArray) else given
        is_list = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type)
        found.append((column.flatten() if is_list else column).to_numpy(zero_copy_only=False))
    return found


def write(name: str, rows: int, folder: Path) -> Path:
    """One format's file."""
    data, path = table(rows), folder / f"d.{name}"
    if name == "parquet":
        pa.parquet.write_table(data, path, row_group_size=50_000)
    elif name == "csv":
        flat = {"id": data["id"], "x": data["x"]}
        values = arrays_of(data.select(["v"]))[0].reshape(-1, 8)
        pa.csv.write_csv(pa.table(flat | {f"v{index}": values[:, index].copy() for index in range(8)}), path)
    elif name == "jsonl":
        import orjson

        ids, numbers, values = arrays_of(data)
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        with path.open("wb") as file:
            for one, number, vector in zip(ids.tolist(), numbers.tolist(), values.reshape(-1, 8), strict=True):
                file.write(orjson.dumps({"id": one, "x": number, "v": vector}, option=options))
    else:
        ids, numbers, values = arrays_of(data)
        columns = {"id": ids, "x": numbers, "v": values.reshape(-1, 8)}
        if name == "npy":
            np.save(path, columns["v"])
        elif name == "nc":
            with scipy.io.netcdf_file(path, "w") as netcdf:
                netcdf.createDimension("row", None)
                netcdf.createDimension("eight", 8)
                for key, column in columns.items():
                    dtype = {"i": "i4"}.get(column.dtype.kind, column.dtype)
                    netcdf.createVariable(key, dtype, ("row", "eight")[: column.ndim])[:] = column
        elif name == "fits":
            given = [
                fits.Column(key, form, array=columns[key]) for key, form in zip(columns, ("K", "D", "8E"), strict=True)
            ]
            fits.BinTableHDU.from_columns(given).writeto(path)
        elif name == "mat":
            scipy.io.savemat(path, columns)
        elif name == "h5":
            with h5py.File(path, "w") as file:
                for key, column in columns.items():
                    file.create_dataset(key, data=column, chunks=(BATCH * 8, *column.shape[1:]))
        else:
            group = zarr.open_group(path, mode="w")
            for key, column in columns.items():
                group.create_array(key, data=column, chunks=(BATCH * 8, *column.shape[1:]))
    return path


def loop(name: str, path: Path) -> Iterator[Any]:
    """The library's own."""
    if name == "parquet":
        yield from map(arrays_of, pa.parquet.ParquetFile(path).iter_batches(BATCH))
    elif name == "csv":
        yield from map(arrays_of, pa.csv.open_csv(path, pa.csv.ReadOptions(use_threads=False)))
    elif name == "jsonl":
        options = pa.json.ReadOptions(use_threads=False)
        yield from map(arrays_of, pa.json.open_json(path, options))
    elif name == "npy":
        rows = np.load(path, mmap_mode="r")
        yield from (np.array(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH))
    elif name == "nc":
        file = scipy.io.netcdf_file(path)
        for start in range(0, file.variables["id"].shape[0], BATCH):
            yield [native(file.variables[key][start : start + BATCH]) for key in ("id", "x", "v")]
    elif name == "fits":
        with fits.open(path) as hdus:
            for start in range(0, len(hdus[1].data), BATCH):
                records = hdus[1].data[start : start + BATCH]
                yield [native(records[key]) for key in ("id", "x", "v")]
    elif name == "mat":
        arrays = scipy.io.loadmat(path)
        for start in range(0, len(arrays["v"]), BATCH):
            yield np.array(arrays["v"][start : start + BATCH], order="C")
    elif name == "h5":
        with h5py.File(path) as file:
            for start in range(0, len(file["id"]), BATCH):
                yield [file[key][start : start + BATCH] for key in ("id", "x", "v")]
    else:
        group = zarr.open_group(path, mode="r")
        arrays = [group[key] for key in ("id", "x", "v")]
        step = BATCH * 8  # a chunk at a time: in batches, the library reads each chunk eight times
        for start in range(0, arrays[0].shape[0], step):
            yield [array[start : start + step] for array in arrays]


def native(array: Any) -> np.ndarray:
    """An array in memory of its own, in this machine's byte order."""
    return np.array(array, array.dtype.newbyteorder("="))


def ours(name: str, path: Path) -> Iterator[Any]:
    """The runner's."""
    columns = ("v",) if name == "mat" else ("id", "x", "v") if name in ("h5", "zarr", "nc") else ()
    source = open_source(str(path), columns)
    for start in range(0, source.num_rows, BATCH):
        yield source.read(start, min(start + BATCH, source.num_rows))


def seconds(read: Callable[[str, Path], Iterator[Any]], name: str, path: Path) -> tuple[float, int]:
    """Of one reading, and by how many bytes memory grew in it."""
    before, most, began = rss(), 0, time.perf_counter()
    for index, _ in enumerate(read(name, path)):
        if index % 100 == 0:
            most = max(most, rss())
    return time.perf_counter() - began, most - before


def main() -> None:
    """Write, read, and print the table."""
    formats = ("npy", "parquet", "csv", "jsonl", "h5", "zarr", "nc", "mat", "fits")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", nargs="+", choices=formats, default=formats)
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    print("| format | rows/s | of the library's own | MiB more |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.formats:
            path = write(name, arguments.rows, Path(folder))
            times: dict[Any, list[tuple[float, int]]] = {loop: [], ours: []}
            for _ in range(arguments.repeats):
                for read, found in times.items():
                    found.append(seconds(read, name, path))
            medians = {read: statistics.median(one for one, _ in found) for read, found in times.items()}
            grown = max(more for _, more in times[ours]) / 2**20
            speed = arguments.rows / medians[ours]
            print(f"| {name} | {speed:,.0f} | {medians[loop] / medians[ours]:.2f} | {grown:.0f} |", flush=True)


if __name__ == "__main__":
    main()
