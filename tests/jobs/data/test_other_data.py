"""Ranks that have other data under the same name, as hosts with copies of their own may."""

import json
import sqlite3
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from launch import PROGRAMS, mpirun, predict_here, python, run, run_here
from PIL import Image
from torch.utils.data import TensorDataset

NUM_ROWS = 64


def build() -> torch.nn.Module:
    return torch.nn.Identity()


def made_at_random() -> TensorDataset:
    """A data set that each process makes otherwise."""
    return TensorDataset(torch.rand(NUM_ROWS, 3, generator=torch.Generator().manual_seed(torch.seed())))


def _write(folder: Path, changed: bool) -> None:
    """The files of one rank; with as many bytes and rows, and other values in the second half."""
    folder.mkdir()
    rows = np.random.default_rng(0).integers(10, 99, (NUM_ROWS, 3)).astype("f4")
    rows[NUM_ROWS // 2 :] += changed
    table = pd.DataFrame(rows, columns=[*"abc"])
    np.save(folder / "x.npy", rows)
    np.savez(folder / "x.npz", x=rows)
    table.to_csv(folder / "x.csv", index=False)
    table.to_parquet(folder / "x.parquet")
    table.to_json(folder / "x.jsonl", orient="records", lines=True)
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = rows
    with sqlite3.connect(folder / "x.sqlite") as connection:
        table.to_sql("x", connection)
    for part in range(3):
        np.save(folder / f"part-{part}.npy", rows[part::3])
        (folder / f"{part}.csv").write_bytes((folder / "x.csv").read_bytes())
    (folder / "images").mkdir()
    for index in range(4):
        Image.fromarray(rows[index * 16 :][:16].astype("u1").repeat(3, 1)).save(folder / "images" / f"{index}.bmp")
    with tarfile.open(folder / "x.tar", "w") as tar:
        for file in sorted((folder / "images").iterdir()):
            tar.add(file, file.name)
    np.save(folder / "short.npy", rows[: NUM_ROWS - changed])
    np.save(folder / "other.npy", rows.astype("f8" if changed else "f4"))


def test_other_data_on_a_rank_is_refused_whatever_its_format(tmp_path: Path) -> None:
    names = ["x.npy", "x.npz", "x.csv", "x.parquet", "x.jsonl", "x.h5", "sqlite:///x.sqlite::x", "part-*.npy", "?.csv"]
    names += ["images", "x.tar", "short.npy", "other.npy", f"{Path(__file__).stem}:made_at_random"]
    jobs = {name: {"model": f"{Path(__file__).stem}:build", "data": name, "output": None} for name in names}
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    for rank in range(2):
        _write(tmp_path / str(rank), changed=bool(rank))
    program = [*python(), PROGRAMS / "refused.py", tmp_path / "jobs.json", tmp_path / "errors.json"]
    ranks = [["--wdir", tmp_path / str(rank), *program] for rank in range(2)]
    outcome = run([*mpirun(1), *ranks[0], ":", "-np", "1", *ranks[1]], tmp_path)
    assert outcome.code == 0, outcome.output
    errors = json.loads((tmp_path / "errors.json").read_text())
    differences = {
        "short.npy": "63 rows, and 64 on rank 0",
        "other.npy": "rows of float64 (3,), and of float32 (3,) on rank 0",
    }
    for name in names:
        assert errors.get(name, "").startswith("65: rank 1 of 2 on "), (name, errors.get(name))
        assert f" has {differences.get(name, 'other contents than on rank 0')}" in errors[name], errors[name]
    assert len(errors) == len(names)


def test_verify_compares_every_row_with_what_was_read(tmp_path: Path) -> None:
    """Of a file too large to be digested whole, and of the columns and rows that the job took."""
    rows = np.arange(3 << 20, dtype="f8").reshape(-1, 4)  # 96 MiB
    np.save(tmp_path / "large.npy", rows)
    table = pd.DataFrame(rows[:100], columns=[*"abcd"])
    table.to_csv(tmp_path / "table.csv", index=False)
    job = ["--model", f"{Path(__file__).stem}:build", "--weights", "none"]
    kept = ["--columns", "b", "--keep", "a", "--skip", "7", "--limit", "50"]
    for data, options in (("large.npy", []), ("table.csv", kept)):
        output = f"{data}.npy"
        outcome = predict_here(*job, "--data", data, *options, "--output", output, folder=tmp_path)
        assert outcome.code == 0, outcome.output
        verified = run_here("verify", output, "--data", data, folder=tmp_path)
        count = 50 if options else len(rows)
        assert verified.code == 0, verified.output
        assert verified.output.endswith(f"; computed from the {count:,} rows of {data}\n")
    rows[400_000, 1] += 1
    np.save(tmp_path / "large.npy", rows)
    table.loc[30, "b"] += 1
    table.to_csv(tmp_path / "table.csv", index=False)
    for data, where in (("large.npy", "399360 to 400127"), ("table.csv", "0 to 31")):
        verified = run_here("verify", f"{data}.npy", "--data", data, folder=tmp_path)
        assert verified.code == 65
        assert f"is not what the predictions were computed from: rows {where}" in verified.output
    verified = run_here("verify", "large.npy.npy", "--data", "table.csv", folder=tmp_path)
    assert verified.code == 65
