"""Many files as one data set: the rows of all of them, in the order of their names, whoever has counted them."""

import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import zarr
from launch import LAUNCHERS, predict_command, predict_here, run
from pyarrow import parquet

import runner
from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import many, open_source
from runner.sources.arrays.npy import NpySource
from runner.sources.many import ManySource
from runner.sources.patterns import expand

LENGTHS = [0, 7, 0, 1, 101, 0, 13, 997, 0]
NUM_ROWS = sum(LENGTHS)
BOUNDS = np.cumsum([0, *LENGTHS]).tolist()
RANGES = [(0, NUM_ROWS), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (6, 9), (7, 8), (8, 109), (100, 1000), (50, 50), (122, 123)]
VALUES = np.arange(NUM_ROWS * 3.0).reshape(NUM_ROWS, 3)
TEXTS = [f"möglich {row}" * (row % 3) for row in range(NUM_ROWS)]


def write(folder: Path, suffix: str) -> str:
    """One file for each length, and the pattern of them."""
    folder.mkdir(exist_ok=True)
    for index, (start, stop) in enumerate(itertools.pairwise(BOUNDS)):
        path, rows = folder / f"part-{index}{suffix}", VALUES[start:stop]
        if suffix == ".npy":
            np.save(path, rows)
        elif suffix == ".npz":
            np.savez(path, x=rows, y=rows[:, 0])
        elif suffix == ".txt":
            path.write_text("".join(f"{text}\n" for text in TEXTS[start:stop]))
        elif suffix == ".zarr":
            zarr.create_array(path, data=rows) if len(rows) else zarr.create_array(path, shape=(0, 3), dtype="f8")
        elif suffix == ".parquet":
            table = {"x": pa.array(rows[:, 0]), "text": pa.array(TEXTS[start:stop], pa.string())}
            parquet.write_table(pa.table(table), path)
        else:
            frame = pd.DataFrame({"x": rows[:, 0] + 0.5, "text": TEXTS[start:stop]})
            if len(rows):
                frame.to_csv(path, index=False)
    return f"{folder}/part-*{suffix}"


def values(rows: Any) -> Any:
    """As plain Python has them."""
    if isinstance(rows, dict):
        return {name: values(column) for name, column in rows.items()}
    batch = as_batch(rows)
    return batch.tolist() if isinstance(batch, torch.Tensor) else batch


EXPECTED: dict[str, Any] = {
    ".npy": VALUES.tolist(),
    ".npz": {"x": VALUES.tolist(), "y": VALUES[:, 0].tolist()},
    ".zarr": VALUES.tolist(),
    ".txt": TEXTS,
    ".parquet": {"x": VALUES[:, 0].tolist(), "text": TEXTS},
    ".csv": {"x": (VALUES[:, 0] + 0.5).tolist(), "text": TEXTS},
}


@pytest.mark.parametrize("suffix", EXPECTED)
def test_any_rows_after_any_scan(suffix: str, tmp_path: Path) -> None:
    pattern, expected = write(tmp_path, suffix), EXPECTED[suffix]
    digests = set()
    for parts in (1, 2, 5, 20):
        source: Any = open_source(pattern)
        assert isinstance(source, ManySource)
        source.use([source.scan(part, parts) for part in range(parts)])
        assert source.num_rows == NUM_ROWS
        digests.add((source.digest(), source.stamp(), source.row_bytes))
        for start, stop in RANGES:
            found = values(source.read(start, stop))
            if isinstance(expected, dict):
                assert found == {name: column[start:stop] for name, column in expected.items()}
            else:
                assert found == expected[start:stop]
    untold = open_source(pattern)  # looks through all files itself
    assert values(untold.read(3, 4)) == values(source.read(3, 4))
    digests.add((untold.digest(), untold.stamp(), untold.row_bytes))
    assert len(digests) == 1


def test_names_are_passed_on(tmp_path: Path) -> None:
    pattern = write(tmp_path, ".npz")
    assert open_source(f"{pattern}::y").row_type == RowType((), np.dtype("f8"))
    assert values(open_source(f"{pattern}::y").read(6, 9)) == VALUES[6:9, 0].tolist()
    assert list(open_source(pattern, ["y"], ["x"]).read(0, 9)) == ["y", "x"]
    with pytest.raises(InputError, match=r"part-0\.npz has no array 'z'; it has x, y"):
        open_source(f"{pattern}::z")
    with pytest.raises(UsageError, match=r"part-0\.npy has no columns"):
        open_source(f"{write(tmp_path, '.npy')}::z")


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/10.npy", "a/9.npy", "a/b/1.npy", "a/.hidden.npy", "c[1].npy", "a/d.npy/1.npy", "e?.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / name, np.array([len(name)]))
    assert expand("a/*.npy") == ["a/10.npy", "a/9.npy"]
    assert expand("a/?.npy") == expand("a/[0-9].npy") == ["a/9.npy"]
    assert expand("**/1*.npy") == ["a/10.npy", "a/b/1.npy", "a/d.npy/1.npy"]
    assert expand(str(tmp_path / "*/9.npy")) == [str(tmp_path / "a/9.npy")]
    assert isinstance(open_source("a/9*.npy"), NpySource)  # one alone
    assert values(open_source("c[1].npy").read(0, 1)) == [8]  # a file of this name
    assert values(open_source("e?.npy").read(0, 1)) == [6]
    for pattern in ("a/*.npz", "none/**/*.npy"):
        with pytest.raises(InputError, match=r"no file matches"):
            open_source(pattern)
    (tmp_path / "a/notes.md").write_text("x")
    with pytest.raises(UsageError, match=r"notes\.md.* must end in"):
        open_source("a/*", []).num_rows  # noqa: B018


@pytest.mark.parametrize(
    ("log", "files", "says"),
    [
        ("_delta_log/00000000000000000000.json", "part-0.parquet", "is a Delta table"),
        ("metadata/v1.metadata.json", "data/day=3/0.parquet", "is an Iceberg table"),
        (".hoodie/hoodie.properties", "0.parquet", "is a Hudi table"),
        ("_spark_metadata/0", "0.parquet", "is the output of a stream of Spark"),
        ("_versions/1.manifest", "data/0.lance", "is a Lance data set"),
    ],
)
def test_a_table_whose_log_says_which_files_count(log: str, files: str, says: str, tmp_path: Path) -> None:
    for name in (log, files):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).touch()
    parquet.write_table(pa.table({"x": VALUES[:, 0]}), tmp_path / "t" / files)
    folder = f"{tmp_path}/t"
    own = [] if log.startswith("_delta_log") else [folder, str(Path(folder, files).parent)]  # its folder is data
    for data in (f"{folder}/**/*.*", *own):
        with pytest.raises(InputError, match=f"--data {re.escape(data)} {says}.*Write the table's present rows"):
            open_source(data)
    if files.endswith("parquet"):
        assert open_source(f"{folder}/{files}").num_rows == NUM_ROWS  # a file that the user names


def test_files_that_a_folder_leaves_out_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.parquet", "b.pq"):
        parquet.write_table(pa.table({"x": VALUES[:, 0]}), tmp_path / name)
    assert open_source(str(tmp_path)).num_rows == 2 * NUM_ROWS
    assert open_source(str(tmp_path)).notes == []  # type: ignore[attr-defined]
    (tmp_path / "c.orc").touch()
    (tmp_path / "_SUCCESS").touch()
    says = [f"--data {tmp_path}: 1 file is left out, which is .orc (1)"]
    assert open_source(str(tmp_path)).notes == says  # type: ignore[attr-defined]
    (tmp_path / "b.pq").unlink()
    walks: list[object] = []
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda folder: walks.append(folder) or walk(folder))
    assert open_source(str(tmp_path)).notes == says  # type: ignore[attr-defined]
    assert len(walks) == 2  # for the data, and for what is beside it


def test_a_folder_of_other_files_is_described(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    for name in ("csv/a.csv", "csv/b.csv", "csv/c.json"):
        (tmp_path / name).touch()
    with pytest.raises(
        InputError, match=r"no images.*it holds \.csv \(2\), \.json \(1\)\. .* pattern, .*/csv/\*\*/\*\.csv'"
    ):
        open_source(f"{tmp_path}/csv")
    (tmp_path / "plain").mkdir()
    parquet.write_table(pa.table({"x": VALUES[:, 0]}), tmp_path / "plain/part-00000")
    with pytest.raises(InputError, match=r"without a suffix \(1\)\. They are Parquet: rename them to end in \.parquet"):
        open_source(f"{tmp_path}/plain")


def test_a_series_of_numbers_as_webdataset_names_it(tmp_path: Path) -> None:
    for index in (8, 9, 10):
        np.save(tmp_path / f"{index:03d}.npy", np.array([index]))
    assert values(open_source(f"{tmp_path}/{{008..010}}.npy").read(0, 3)) == [8, 9, 10]
    with pytest.raises(InputError, match=r"011\.npy: No such file"):
        open_source(f"{tmp_path}/{{008..011}}.npy").num_rows  # noqa: B018


def test_patterns_of_a_url(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    write(tmp_path, ".npy")
    for path in tmp_path.glob("*.npy"):
        with fsspec.open(f"memory://many/deep/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    for pattern in ("memory://many/deep/part-*.npy", "memory://many/**/*.npy"):
        source = open_source(pattern)
        assert source.num_rows == NUM_ROWS
        assert values(source.read(6, 120)) == VALUES[6:120].tolist()
        assert source.stamp() == open_source(pattern).stamp()
    stamp = source.stamp()
    with fsspec.open("memory://many/deep/part-1.npy", "wb") as file:
        file.write((tmp_path / "part-3.npy").read_bytes())
    assert source.stamp() != stamp
    with pytest.raises(InputError, match="no file matches"):
        open_source("memory://nothing/*.npy")
    with pytest.raises(InputError, match="nosuch"):
        open_source("nosuch://x/*.npy")


def test_lists_from_python(tmp_path: Path) -> None:
    pattern = write(tmp_path, ".npy")
    paths = sorted(tmp_path.glob("*.npy"))
    for given in (paths, tuple(paths), [str(path) for path in paths], [pattern]):
        assert values(open_source(given).read(0, NUM_ROWS)) == VALUES.tolist()
    backwards = [np.load(path).tolist() for path in paths[::-1]]  # in the order of the list
    assert values(open_source(paths[::-1]).read(0, NUM_ROWS)) == [row for rows in backwards for row in rows]
    assert values(open_source([[1.0, 2.0], [3.0, 4.0]]).read(0, 2)) == [[1, 2], [3, 4]]
    for given in (["a", "b"], ["a.npy", 3], [str(paths[0]), "b"], ("a.npy", None)):
        with pytest.raises(InputError, match="data is of dtype"):
            open_source(given)
    with pytest.raises(InputError, match=r"none\.npy: No such file"):
        open_source(["none.npy"])
    report = runner.predict(model="zoo:Identity", data=paths, output=None)
    assert np.array_equal(report.predictions, VALUES)


def test_a_folder_of_parquet_files_as_spark_writes_it(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    write(folder, ".parquet")
    for hidden in ("_temporary/part-0.parquet", ".staging/part-0.parquet", "_metadata.parquet", ".part-9.parquet"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"no Parquet")
    for extra in ("_SUCCESS", ".part-0.parquet.crc"):
        (folder / extra).write_bytes(b"")
    for path in (str(folder), f"{folder}/"):
        source = open_source(f"{path}::x")
        assert source.num_rows == NUM_ROWS
        assert values(source.read(0, NUM_ROWS)) == VALUES[:, 0].tolist()
    by_day = tmp_path / "by day"
    for day in (10, 9):
        (by_day / f"day={day}").mkdir(parents=True)
        parquet.write_table(pa.table({"x": [day, day]}), by_day / f"day={day}/part-0.parquet")
    assert values(open_source(str(by_day)).read(0, 4)) == [10, 10, 9, 9]  # plain order of names
    written = tmp_path / "written"  # by pyarrow, with folders of values
    parquet.write_to_dataset(pa.table({"x": [1.0, 2.0, 3.0], "k": ["a", "b", "a"]}), written, partition_cols=["k"])
    assert values(open_source(str(written)).read(0, 3)) == [1, 3, 2]


def test_files_of_unlike_types_are_refused(tmp_path: Path) -> None:
    pattern = write(tmp_path, ".npy")
    np.save(tmp_path / "part-4.npy", np.zeros((5, 3), "f4"))
    source: Any = open_source(pattern)
    scans = [source.scan(part, 3) for part in range(3)]
    message = r"part-4\.npy: its rows are float32 \(3,\); those of .*part-0\.npy are float64 \(3,\)"
    with pytest.raises(InputError, match=message):
        source.use(scans)
    with pytest.raises(InputError, match=message):
        open_source(pattern).num_rows  # noqa: B018
    (tmp_path / "part-4.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"part-4\.npy is not a \.npy file"):
        open_source(pattern).num_rows  # noqa: B018


def test_digest_and_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = write(tmp_path / "a", ".npy")
    assert open_source(write(tmp_path / "b", ".npy")).digest() == open_source(pattern).digest()
    for path in (tmp_path / "b").iterdir():
        path.rename(path.with_stem(path.stem.replace("part", "other")))
    assert open_source(f"{tmp_path}/b/*.npy").digest() == open_source(pattern).digest()
    found, stamps = {open_source(pattern).digest()}, {open_source(pattern).stamp()}
    for index in (1, 7):
        path = tmp_path / f"a/part-{index}.npy"
        np.save(path, np.load(path) + 1)
        found.add(open_source(pattern).digest())
        stamps.add(open_source(pattern).stamp())
    assert (len(found), len(stamps)) == (3, 3)
    monkeypatch.setattr(many, "_DIGESTED_FILES", 2)
    sampled = open_source(pattern).digest()
    np.save(tmp_path / "a/part-8.npy", np.zeros((1, 3)))
    assert open_source(pattern).digest() != sampled  # by the counts


def test_at_most_one_file_is_open(tmp_path: Path) -> None:
    for index in range(300):
        np.save(tmp_path / f"{index:03}.npy", np.full(3, index))
    before = len(os.listdir("/proc/self/fd"))
    source = open_source(f"{tmp_path}/*.npy")
    assert source.num_rows == 900
    assert values(source.read(0, 900)) == [index for index in range(300) for _ in range(3)]
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_file_that_changes_after_it_was_counted(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, ".npy"))
    assert source.num_rows == NUM_ROWS
    np.save(tmp_path / "part-4.npy", np.zeros((5, 3)))
    with pytest.raises(InputError, match=r"part-4\.npy is not the same as before, .* it had 101 rows .*, and has 5"):
        source.read(8, 9)
    assert values(source.read(0, 8)) == VALUES[:8].tolist()


def test_lines_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.sources.tables import lines

    counted = []
    scan = lines.scan
    monkeypatch.setattr(lines, "scan", lambda file, *rest: counted.append(file.path) or scan(file, *rest))
    source = open_source(write(tmp_path, ".txt"))
    for row in range(0, NUM_ROWS, 50):
        assert values(source.read(row, row + 1)) == [TEXTS[row]]
    for row in range(NUM_ROWS - 1, 0, -50):
        assert values(source.read(row, row + 1)) == [TEXTS[row]]
    assert len(counted) == len(set(counted)) == len(LENGTHS)
    assert source.row_type == RowType(RAGGED, TEXT)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_many_files_are_predicted_by_ranks_that_count_them_together(suffix: str, tmp_path: Path) -> None:
    pattern = write(tmp_path, suffix) + "::x" * (suffix == ".parquet")
    command = ["--model", "zoo:Identity", "--data", pattern, "--output", "p.npy", "--batch-size", "16"]
    launcher = LAUNCHERS["mpirun-3" if suffix == ".npy" else "mpirun-2"]
    outcome = run(predict_command(*command, launcher=launcher), tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.array_equal(np.load(tmp_path / "p.npy"), VALUES if suffix == ".npy" else VALUES[:, 0])


def test_a_file_that_differs_is_named_once_by_two_ranks(tmp_path: Path) -> None:
    pattern = write(tmp_path, ".npy")
    np.save(tmp_path / "part-4.npy", np.zeros((5, 3), "f4"))
    command = ["--model", "zoo:Identity", "--data", pattern, "--output", "p.npy"]
    outcome = run(predict_command(*command, launcher=LAUNCHERS["mpirun-2"]), tmp_path)
    assert (outcome.code, outcome.output.count("part-4.npy: its rows are float32 (3,)")) == (65, 1), outcome.output


def test_a_bad_row_in_one_of_many_is_set_aside(tmp_path: Path) -> None:
    for index in range(3):
        lines = [f"{row}.5\n" for row in range(2000)]
        if index == 1:
            lines[1500] = "tree\n"
        (tmp_path / f"{index}.csv").write_text("v\n" + "".join(lines))
    command = ["--model", "zoo:Identity", "--data", "*.csv", "--output", "p.npy"]
    outcome = predict_here(*command, folder=tmp_path)
    assert (outcome.code, "1.csv: row 1500: " in outcome.output) == (65, True), outcome.output
    outcome = predict_here(*command, "--on-error", "quarantine", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    (line,) = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 3500
    found = np.load(tmp_path / "p.npy")
    assert found[3501:].tolist() == [row + 0.5 for row in [*range(1501, 2000), *range(2000)]]
