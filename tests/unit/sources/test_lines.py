"""CSV, JSON lines and text: any range of rows, whoever has counted them, against what wrote them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from launch import LAUNCHERS, predict_command, predict_here, run

from runner.core.errors import InputError
from runner.data.tensors import as_batch
from runner.sources import open_source
from runner.sources.tables import line_index

NUM_ROWS = 1501
RANGES = [(0, NUM_ROWS), (17, 18), (NUM_ROWS - 1, NUM_ROWS), (0, 1), (100, 900)]


def make_rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "id": f"row {row}",
            "x": float(rng.random()),
            "vector": rng.random(3).tolist(),
            "text": "möglich, " * (row % 4) + ('two\r\nlines "quoted"\n\n' if row % 5 == 0 else "") + "|",
            "tokens": list(range(row % 7)),
            "whole": int(rng.integers(-5, 5)),
        }
        for row in range(NUM_ROWS)
    ]


def write(folder: Path, suffix: str) -> tuple[Path, list[dict[str, Any]]]:
    rows, path = make_rows(), folder / f"d{suffix}"
    frame = pd.DataFrame(rows)
    if suffix == ".jsonl":
        lines = [json.dumps(row) + "\n" for row in rows]
        path.write_text("".join(line + "\n" * (row % 100 == 0) for row, line in enumerate(lines)))  # blank ones between
    elif suffix == ".txt":
        rows = [{"line": row["text"].replace("\n", " ").replace("\r", " ")} for row in rows]
        path.write_bytes(
            "".join(row["line"] + "\r\n" * (i % 3) + "\n" * (i % 3 == 0) for i, row in enumerate(rows)).encode()
        )
        rows = [row for i, row in enumerate(rows) for row in [row, {"line": ""}][: max(1, i % 3)]]
    else:
        separator = "\t" if suffix == ".tsv" else ","
        frame.drop(columns=["vector", "tokens"]).to_csv(path, index=False, sep=separator, encoding="utf-8-sig")
    return path, rows


@pytest.mark.parametrize("segment", [1 << 20, 5000, 100])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".txt"])
def test_any_range_after_any_count(suffix: str, segment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_index, "SEGMENT_BYTES", segment)
    monkeypatch.setattr(line_index, "_BLOCK_BYTES", segment * 7)
    path, rows = write(tmp_path, suffix)
    for parts in (1, 2, 7):
        source: Any = open_source(str(path))
        source.use([source.scan(part, parts) for part in range(parts)])
        assert source.num_rows == len(rows)
        for start, stop in RANGES:
            batch = as_batch(source.read(start, stop))
            found = {"line": batch} if suffix == ".txt" else batch
            for name, column in found.items():
                values = [item.tolist() if isinstance(item, torch.Tensor) else item for item in column]
                assert values == [row[name] for row in rows[start:stop]], (name, start, stop, parts)


def test_a_last_line_without_an_end(tmp_path: Path) -> None:
    for name, text in {"a.txt": "x\ny", "a.csv": "v\n1\n2", "a.jsonl": '{"v":1}\n{"v":2}'}.items():
        (tmp_path / name).write_text(text)
        source = open_source(str(tmp_path / name))
        assert source.num_rows == 2
        assert list(as_batch(source.read(1, 2))) == (["y"] if name == "a.txt" else [2])


@pytest.mark.launch
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_is_predicted_by_ranks_that_count_its_lines_together(suffix: str, tmp_path: Path) -> None:
    path, rows = write(tmp_path, suffix)
    options = ["--model", "zoo:TwoColumns", "--data", path, "--columns", "x,whole", "--output", "p.npy"]
    launcher = LAUNCHERS["mpirun-3" if suffix == ".csv" else "mpirun-2"]
    outcome = run(predict_command(*options, "--batch-size", "7", launcher=launcher), tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.array_equal(np.load(tmp_path / "p.npy"), [row["x"] * 2 + row["whole"] for row in rows])


BAD = {
    "words.csv": ("v\n1\n2\ntree\n4\n", "row 2: In CSV column #0: CSV conversion error to double"),
    "wide.csv": ("a,b\n1,2\n3,4,5\n6,7\n", "row 1: CSV parse error"),
    "gap.csv": ("a,b\n1,2\n3,\n6,7\n", "row 1 of column 'b' is null"),
    "broken.jsonl": ('{"v":1}\n{"v":\n{"v":3}\n', "row 1: JSON parse error"),
    "other.jsonl": ('{"v":1}\n{"v":"tree"}\n{"v":3}\n', "row 1: JSON parse error"),
    "short.jsonl": ('{"v":[1,2]}\n{"v":[3]}\n{"v":[4,5]}\n', "row 1: a list is not of length 2, as those before it"),
    "missing.jsonl": ('{"v":1}\n{"w":2}\n{"v":3}\n', "row 1 of column 'v' is null"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_and_set_aside(name: str, tmp_path: Path) -> None:
    text, message = BAD[name]
    good = "".join(text.splitlines(keepends=True)[: 2 if name.endswith("csv") else 1])
    body = text.removeprefix(good.splitlines(keepends=True)[0]) if name.endswith("csv") else text
    header = good.splitlines(keepends=True)[0] if name.endswith("csv") else ""
    filler = good.removeprefix(header)
    # enough good rows before it that types are known from them
    (tmp_path / name).write_text(header + filler * 3000 + body)
    command = ["--model", "zoo:Identity", "--data", f"{name}::{'b' if 'b' in header else 'v'}", "--output", "p.npy"]
    outcome = predict_here(*command, folder=tmp_path)
    assert outcome.code == 65, outcome.output
    bad = 3000 + int(message.split()[1].rstrip(":"))
    expected = message.replace(message.split()[1].rstrip(":"), str(bad), 1)
    assert expected in outcome.output, outcome.output
    outcome = predict_here(*command, "--on-error", "quarantine", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    (line,) = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == bad
    found = np.load(tmp_path / "p.npy")
    assert len(found) == 3000 + len(body.splitlines())
    assert (found[-1] > 2).all()


@pytest.mark.launch
def test_what_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    (tmp_path / "d.jsonl").write_text('{"a": 1, "when": {"deep": 2}}\n')
    for name, columns, message in (
        ("d.csv", "a,c", "has no column 'c'; it has a, b"),
        ("d.jsonl", "when", "column 'when' is of type struct"),
        ("empty.csv", "a", "empty.csv: No such file"),
    ):
        command = ["--model", "zoo:Identity", "--data", name, "--columns", columns, "--output", "p.npy"]
        if name == "d.csv":
            outcome = run(predict_command(*command, launcher=LAUNCHERS["mpirun-2"]), tmp_path)
        else:
            outcome = predict_here(*command, folder=tmp_path)
        assert (outcome.code, outcome.output.count(message)) == (65, 1), outcome.output
        assert outcome.output.count("runner: error") == 1
    command = ["--model", "zoo:Identity", "--data", "d.csv", "--columns", "a", "--keep", "a", "--output", "p.npy"]
    outcome = predict_here(*command, folder=tmp_path)
    assert (outcome.code, outcome.output.count("--keep a: no other column is left")) == (64, 1), outcome.output
    for name in ("d.csv", "d.jsonl"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=r"is not CSV with a header|holds no JSON objects"):
            open_source(str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("0.5,-1.25\n0.1,2\n", [], "looks like a row: 0.5, -1.25"),
        ("u1,0.5,3\nu2,0.25,4\n", [], "looks like a row: u1, 0.5, 3"),
        ("u1,0.5,3\nu2,0.25,4\n", ["0.5"], ""),
        ("7\n8\n", [], "looks like a row: 7"),
        ("a;b\n1;2\n", [], "separated by semicolons"),
        ("a|b\n1|2\n", [], "separated by vertical bars"),
        ("a\tb\n1\t2\n", [], "separated by tabs"),
        ("a;b\n1;2\n", ["a;b"], ""),
        ("0,1,2\n0.5,0.1,0.2\n", [], ""),  # as pandas names columns
        (",0,1\n0,0.5,0.1\n", [], ""),
        ("1,2\n0.5,0.1\n", [], ""),
        ("site,1990,1991,1992,1993,1994\nx,1,2,3,4,5\n", [], ""),
        ("id,2020\nx,y\n", [], ""),  # numbers above text are names
    ],
)
def test_a_first_line_that_names_no_columns(text: str, columns: list[str], message: str, tmp_path: Path) -> None:
    """It is refused: as names, the values of a row would be lost."""
    (tmp_path / "d.csv").write_text(text)
    if message:
        with pytest.raises(InputError, match=re.escape(message)):
            open_source(str(tmp_path / "d.csv"), columns)
    else:
        assert open_source(str(tmp_path / "d.csv"), columns).num_rows == text.count("\n") - 1
