"""Every kind of data into every kind of output, alone, on three ranks, killed on the way: rows and ids as they were."""

import itertools
import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import datasets
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import scipy.io
import scipy.sparse
import torch
import webdataset
import zarr
import zoo
from astropy.io import fits
from launch import LAUNCHERS, PROGRAMS, python, run
from outputs import read_back
from torch import nn
from torch.utils.data import Dataset

from runner.cli.main import main

NUM_ROWS = 149
OUTPUTS = [".npy", ".parquet", ".feather", ".csv", ".jsonl", ".h5", ".zarr"]
CSV_COLUMNS = [f"x{index}" for index in range(4)]


class Twice(nn.Module):
    """Twice the rows, which come as one tensor or as four columns."""

    def forward(self, rows: torch.Tensor | None = None, **columns: torch.Tensor) -> torch.Tensor:
        if rows is None:
            rows = torch.stack([columns[name] for name in CSV_COLUMNS], dim=1)
        return rows.float() * 2


class TwiceDies(Twice):
    """The same; but it ends its process at the 14th batch, once: when three chunks are recorded in the folder `run`."""

    def __init__(self, flag: str, run: str) -> None:
        super().__init__()
        self.flag, self.run, self.left = Path(flag), Path(run), 14

    def forward(self, rows: torch.Tensor | None = None, **columns: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if not self.left and not self.flag.exists():
            zoo.await_commits(self.run, 3)
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(rows, **columns)


def make_rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(NUM_ROWS, 4)).astype(np.float32)


class Items(Dataset):  # type: ignore[type-arg]
    """As a user's module gives it."""

    def __len__(self) -> int:
        return NUM_ROWS

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"rows": torch.from_numpy(make_rows()[index]), "id": index}


def make_items() -> Items:
    return Items()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    rows, ids = make_rows(), np.arange(NUM_ROWS)
    np.save(folder / "d.npy", rows)
    np.savez(folder / "d.npz", rows=rows, id=ids)
    table = pa.table({"id": ids, "rows": pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 4)})
    pa.parquet.write_table(table, folder / "d.parquet", row_group_size=40)
    pa.feather.write_feather(table, folder / "d.feather", "zstd", chunksize=40)
    for part in range(3):  # of unlike sizes, the middle one empty
        first, last = ((0, 100), (100, 100), (100, NUM_ROWS))[part]
        pa.parquet.write_table(table.slice(first, last - first), folder / f"part-{part}.parquet")
    frame = pd.DataFrame({"id": ids, **{name: rows[:, i] for i, name in enumerate(CSV_COLUMNS)}})
    frame.to_csv(folder / "d.csv", index=False)
    lines = [json.dumps({"id": int(i), "rows": row.astype(float).tolist()}) for i, row in zip(ids, rows, strict=True)]
    (folder / "d.jsonl").write_text("\n".join(lines))
    with h5py.File(folder / "d.h5", "w") as file:
        file.create_dataset("rows", data=rows, chunks=(10, 4), compression="gzip")
        file.create_dataset("id", data=ids)
    group = zarr.open_group(folder / "d.zarr", mode="w")
    group.create_array("rows", data=rows, chunks=(10, 4))
    group.create_array("id", data=ids)
    with webdataset.TarWriter(str(folder / "d.tar")) as tar:
        for i, row in zip(ids.tolist(), rows, strict=True):
            tar.write({"__key__": f"{i:05d}", "rows.npy": row, "id.cls": i})
    datasets.Dataset.from_dict({"id": ids, "rows": rows.tolist()}).save_to_disk(folder / "saved")
    with sqlite3.connect(folder / "d.db") as database:
        frame.astype(dict.fromkeys(CSV_COLUMNS, float)).to_sql("t", database, index=False)
    database.close()
    write_science(folder, rows, ids)
    return folder


def write_science(folder: Path, rows: np.ndarray, ids: np.ndarray) -> None:
    """The same rows as scientists have them."""
    with scipy.io.netcdf_file(folder / "d.nc", "w") as netcdf:
        netcdf.createDimension("row", None)
        netcdf.createDimension("x", 4)
        netcdf.createVariable("rows", "f4", ("row", "x"))[:] = rows
        netcdf.createVariable("id", "i4", ("row",))[:] = ids
    scipy.io.savemat(folder / "d.mat", {"rows": rows})
    columns = [fits.Column("rows", "4E", array=rows), fits.Column("id", "J", array=ids)]
    fits.BinTableHDU.from_columns(columns).writeto(folder / "d.fits")
    matrix = scipy.sparse.csr_matrix(rows)
    with h5py.File(folder / "d.h5ad", "w") as file:
        file.attrs["encoding-type"] = "anndata"
        for name in ("data", "indices", "indptr"):
            file[f"X/{name}"] = getattr(matrix, name)
        file["X"].attrs.update({"encoding-type": "csr_matrix", "shape": rows.shape})
        file["obs/id"] = ids
        file["obs"].attrs.update({"encoding-type": "dataframe", "column-order": ["id"]})


SOURCES: dict[str, dict[str, Any]] = {
    "d.npy": {},
    "d.npz": {"columns": ["rows"], "keep": ["id"]},
    "d.parquet": {"columns": ["rows"], "keep": ["id"]},
    "d.feather": {"columns": ["rows"], "keep": ["id"]},
    "part-*.parquet": {"columns": ["rows"], "keep": ["id"]},
    "d.csv": {"columns": CSV_COLUMNS, "keep": ["id"]},
    "d.jsonl": {"keep": ["id"]},
    "d.h5": {"columns": ["rows"], "keep": ["id"]},
    "d.zarr": {"columns": ["rows"], "keep": ["id"]},
    "d.tar": {"columns": ["rows.npy"], "keep": ["id.cls"]},
    "saved": {"columns": ["rows"], "keep": ["id"], "preprocess": "test_matrix:as_tensor"},
    "sqlite:///d.db::t": {"columns": CSV_COLUMNS, "keep": ["id"]},
    "test_matrix:make_items": {"columns": ["rows"], "keep": ["id"]},
    "d.nc": {"columns": ["rows"], "keep": ["id"]},
    "d.mat::rows": {},
    "d.fits::1": {"columns": ["rows"], "keep": ["id"]},
    "d.h5ad": {"columns": ["X"], "keep": ["id"]},
}
OTHERS = ("d.nc", "d.mat::rows", "d.fits::1", "d.h5ad")  # into one kind of output


def as_tensor(rows: list[torch.Tensor] | torch.Tensor) -> torch.Tensor:
    """Lists of one length, where their type does not say so."""
    return torch.stack(rows) if isinstance(rows, list) else rows


@pytest.mark.parametrize("way", ["alone", "mpirun-3", "killed and resumed"])
def test_every_pair(way: str, folder: Path, tmp_path: Path) -> None:
    model, job = ("TwiceDies", "killed") if way.startswith("killed") else ("Twice", "several")
    jobs, pairs = [], list(enumerate(itertools.product(SOURCES, OUTPUTS)))
    pairs = [(number, (data, suffix)) for number, (data, suffix) in pairs if data not in OTHERS or suffix == ".parquet"]
    if job == "killed":  # every source and every output, but not every pair
        pairs = [(number, pair) for number, pair in pairs if "d.parquet" in pair or ".parquet" in pair]
    for number, (data, suffix) in pairs:
        common = {"model": f"test_matrix:{model}", "data": data, "output": str(tmp_path / f"{number}{suffix}")}
        jobs.append({**common, "batch_size": 8, "chunk_size": 16, **SOURCES[data]})
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [*LAUNCHERS.get(way, []), *python(), PROGRAMS / f"{job}.py", tmp_path / "jobs.json"]
    outcome = run(command, folder, timeout=280)
    assert outcome.code == 0, outcome.output
    wanted = make_rows() * 2
    for number, (data, suffix) in pairs:
        output = tmp_path / f"{number}{suffix}"
        found = read_back(output)
        assert np.array_equal(np.float32(found["predictions"]), wanted), (data, suffix)
        for kept in SOURCES[data].get("keep", []):
            assert found[kept] == list(range(NUM_ROWS)), (data, suffix)
        if data in ("d.npy", "d.csv"):
            assert main(["verify", str(output)]) == 0
