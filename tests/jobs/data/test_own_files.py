"""Jobs of three ranks over compressed text, sequences, sound and a Delta table, one of them killed and resumed."""

import gzip
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import soundfile
import torch
from deltalake import write_deltalake
from launch import PROGRAMS, mpirun, predict_here, python, run
from zoo import await_commits

NUM_ROWS = 331


def measure(rows: Any) -> torch.Tensor:
    """The length of each row, and the sum of its values or of its letters."""
    if isinstance(rows, torch.Tensor):
        return torch.stack([torch.ones(len(rows)), rows.float()], 1)
    values = [torch.tensor(list(row.encode())) if isinstance(row, str) else row for row in rows]
    return torch.tensor([[float(len(row)), float(row.sum())] for row in values])


def measure_or_die(rows: Any) -> torch.Tensor:
    """Do the same; where there is a file `flag`, end this process once others have recorded something."""
    flag = Path("flag")
    if flag.exists() and any("W" in row for row in rows):
        await_commits(Path("fasta.parquet.run"), 3)
        flag.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return measure(rows)


def sequence(row: int) -> str:
    return "ACGT" * (row % 7) + "N" * (row % 3) + "W" * (row == NUM_ROWS - 40)


def write(folder: Path) -> dict[str, list[tuple[Any, list[float]]]]:
    """Write the data; return, by name of a job, what is kept of each row and what is measured of it."""
    for part, bounds in enumerate([(0, 100), (100, 101), (101, 300), (300, NUM_ROWS)]):
        records = "".join(f">s{row} of {part}\n{sequence(row)[:9]}\n{sequence(row)[9:]}\n" for row in range(*bounds))
        (folder / f"part-{part}.fa.gz").write_bytes(gzip.compress(records.encode()))
    table = "id,x\n" + "".join(f"r{row},{row / 4}\n" for row in range(NUM_ROWS))
    (folder / "d.csv.zst").write_bytes(pa.compress(table.encode(), codec="zstd", asbytes=True))
    rows = range(NUM_ROWS)
    years = pa.array([row % 2 for row in rows], pa.int64())
    write_deltalake(folder / "delta", pa.table({"x": [row / 4 for row in rows], "year": years}), partition_by=["year"])
    (folder / "sound").mkdir()
    sounds = [np.full(100 + row, row / 64, np.float32) for row in range(40)]
    for row, values in enumerate(sounds):
        soundfile.write(folder / f"sound/{row:02d}.wav", values, 16000, subtype="FLOAT")
    files = sorted((folder / "delta").rglob("*.parquet"))
    tables = [pa.parquet.ParquetFile(file).read().column("x").to_pylist() for file in files]
    pairs = [(int("year=1" in str(file)), [1.0, x]) for file, column in zip(files, tables, strict=True) for x in column]
    return {
        "fasta": [(f"s{row}", [float(len(sequence(row))), float(sum(sequence(row).encode()))]) for row in rows],
        "csv": [(f"r{row}", [1.0, row / 4]) for row in rows],
        "delta": pairs,
        "sound": [(f"{row:02d}.wav", [float(len(v)), float(v.sum())]) for row, v in enumerate(sounds)],
    }


def test_three_ranks_read_them_and_resume_what_was_killed(tmp_path: Path) -> None:
    expected = write(tmp_path)
    common = {"model": "zoo:Identity", "preprocess": "test_own_files:measure", "batch_size": 4, "chunk_size": 8}
    jobs = [
        {**common, "data": "d.csv.zst", "columns": "x", "keep": "id", "output": "csv.parquet"},
        {**common, "data": "delta", "columns": "x", "keep": "year", "output": "delta.parquet"},
        {**common, "data": "sound", "columns": "audio", "keep": "path", "output": "sound.parquet"},
        {**common, "data": "part-*.fa.gz", "columns": "sequence", "keep": "id", "output": "fasta.parquet"},
    ]
    jobs[-1]["preprocess"] = "test_own_files:measure_or_die"
    (tmp_path / "all.json").write_text(json.dumps(jobs))
    (tmp_path / "last.json").write_text(json.dumps(jobs[-1:]))
    (tmp_path / "flag").touch()
    command = [*mpirun(3), *python(), PROGRAMS / "several.py"]
    killed = run([*command, "all.json"], tmp_path)
    assert killed.code != 0, killed.output
    assert not (tmp_path / "flag").exists()
    outcome = run([*command, "last.json"], tmp_path)
    assert outcome.code == 0, outcome.output
    for name, rows in expected.items():
        table = pa.parquet.read_table(tmp_path / f"{name}.parquet")
        kept, predictions = (table.column(index).to_pylist() for index in (0, 1))
        assert list(zip(kept, predictions, strict=True)) == rows, name


def test_damaged_files_end_the_job_with_their_names(tmp_path: Path) -> None:
    write(tmp_path)
    common = ["--model", "zoo:Identity", "--output", "p.npy", "--data"]
    (tmp_path / "part-2.fa.gz").write_bytes((tmp_path / "part-2.fa.gz").read_bytes()[:-5])
    outcome = predict_here(*common, "part-*.fa.gz", folder=tmp_path)
    assert (outcome.code, "--data part-2.fa.gz is truncated" in outcome.output) == (65, True)
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1000), 16000, format="WAV")
    (tmp_path / "sound/07.wav").write_bytes(file.getvalue()[:-1])
    outcome = predict_here(*common, "sound", "--preprocess", "test_own_files:measure", folder=tmp_path)
    assert (outcome.code, "row 7 ('07.wav') is truncated" in outcome.output) == (65, True), outcome.output
    damaged = next((tmp_path / "delta").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    outcome = predict_here(*common, "delta", folder=tmp_path)
    assert (outcome.code, damaged.name in outcome.output) == (65, True), outcome.output
