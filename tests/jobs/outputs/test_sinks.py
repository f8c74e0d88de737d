"""Every format of output from every kind of prediction, read back by the formats' own libraries."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from launch import LAUNCHERS, PROGRAMS, Outcome, predict_command, predict_here, python, run, run_here
from outputs import read_back
from PIL import Image
from sink_models import Fixed, Several, Unlike
from torch import nn

from runner.cli.main import main
from runner.sinks import path_checksum

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
NUM_ROWS, BATCH_SIZE, CHUNK_SIZE = 997, 8, 64
SUFFIXES = [".npy", ".parquet", ".feather", ".csv", ".tsv", ".jsonl", ".h5", ".zarr"]


def expected(model: nn.Module, rows: np.ndarray) -> dict[str, list[Any]]:
    """Row by row, by PyTorch alone."""
    found: dict[str, list[Any]] = {}
    for row in torch.from_numpy(rows):
        outputs = model(row[None])
        for name, output in (outputs if isinstance(outputs, dict) else {"predictions": outputs}).items():
            value = output.unbind()[0].tolist() if isinstance(output, torch.Tensor) else output[0]
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sinks")
    rows = np.random.default_rng(0).normal(size=(NUM_ROWS, 4)).astype(np.float32)
    np.save(folder / "d.npy", rows)
    table = {"id": [f"row {i}" for i in range(NUM_ROWS)], "weight": np.arange(NUM_ROWS) / 7}
    table["rows"] = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 4)
    pa.parquet.write_table(pa.table(table), folder / "d.parquet", row_group_size=100)
    return folder


def predict(folder: Path, model: str, data: str, output: Path, *more: str, launcher: str = "here") -> Outcome:
    options = ["--model", f"sink_models:{model}", "--data", data, "--output", output, "--batch-size", str(BATCH_SIZE)]
    options += ["--chunk-size", str(CHUNK_SIZE), *more]
    if launcher == "here":
        return predict_here(*options, folder=folder)
    return run(predict_command(*options, launcher=LAUNCHERS[launcher]), folder)


def assert_equal(found: dict[str, list[Any]], wanted: dict[str, list[Any]], as_text: bool) -> None:
    assert found.keys() == wanted.keys()
    for name, column in wanted.items():
        # numbers as text are of single precision, where the predictions are
        values = np.float32(column).tolist() if as_text and isinstance(column[0], float) else column
        assert found[name] == values or (as_text and np.array_equal(np.float32(found[name]), np.float32(column))), name


def predict_several(folder: Path, jobs: list[dict[str, Any]], launcher: str) -> None:
    """Several jobs in the same processes, which start only once."""
    path = Path(jobs[0]["output"]).parent / "jobs.json"
    common = {"batch_size": BATCH_SIZE, "chunk_size": CHUNK_SIZE}
    named = [{**common, **job, "model": f"sink_models:{job['model']}"} for job in jobs]
    path.write_text(json.dumps(named))
    outcome = run([*LAUNCHERS[launcher], *python(), PROGRAMS / "several.py", path], folder)
    path.unlink()
    assert outcome.code == 0, outcome.output


def test_predictions_of_fixed_shape(folder: Path, tmp_path: Path) -> None:
    """With one rank and with three: the same bytes."""
    jobs: list[dict[str, Any]] = []
    for launcher in ("alone", "mpirun-3"):
        (tmp_path / launcher).mkdir()
        outputs = {m: [tmp_path / launcher / f"{m}{suffix}" for suffix in SUFFIXES] for m in ("Fixed", "Several")}
        jobs = [{"model": model, "data": "d.npy", "output": str(o)} for model, each in outputs.items() for o in each]
        predict_several(folder, jobs, launcher)
    for job in jobs:
        assert path_checksum(job["output"]) == path_checksum(job["output"].replace("mpirun-3", "alone")), job["output"]
    for model, found in ((Fixed(), outputs["Fixed"]), (Several(), outputs["Several"])):
        wanted = expected(model, np.load(folder / "d.npy"))
        for output in found:
            assert_equal(read_back(output), wanted, as_text=output.suffix in (".csv", ".tsv", ".jsonl"))
            assert main(["verify", str(output)]) == 0
    names = [output.name for each in outputs.values() for output in each]
    assert sorted(path.name for path in (tmp_path / "mpirun-3").iterdir()) == sorted(
        [*names, *(f"{name}.run" for name in names)]
    )


@pytest.mark.parametrize("launcher", ["alone", "mpirun-3"])
def test_rows_of_unlike_lengths_and_text(launcher: str, folder: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"p{suffix}" for suffix in (".parquet", ".feather", ".jsonl")]
    jobs = [{"model": "Unlike", "data": "d.npy", "output": str(output)} for output in outputs]
    predict_several(folder, jobs, launcher)
    wanted = expected(Unlike(), np.load(folder / "d.npy"))
    for output in outputs:
        found = read_back(output)
        if output.suffix == ".jsonl":
            for name in ("first", "spans", "tokens"):
                found[name] = [np.float32(value).tolist() for value in found[name]]
        assert found == wanted


def test_columns_of_the_data_are_kept_beside_them(folder: Path, tmp_path: Path) -> None:
    jobs, models = [], {".npy": "Several", ".parquet": "Fixed", ".csv": "Fixed", ".jsonl": "Unlike", ".h5": "Several"}
    for suffix, model in models.items():
        keep = ["weight"] if suffix == ".npy" else ["id", "weight"]
        job = {"model": model, "data": "d.parquet", "columns": ["rows"], "keep": keep}
        jobs.append({**job, "output": str(tmp_path / f"p{suffix}")})
    predict_several(folder, jobs, "mpirun-2")
    for suffix, model in models.items():
        found = read_back(tmp_path / f"p{suffix}")
        assert found["weight"] == (np.arange(NUM_ROWS) / 7).tolist()
        if suffix != ".npy":
            assert found["id"] == [f"row {i}" for i in range(NUM_ROWS)]
        if suffix not in (".npy", ".h5"):
            assert list(found)[:2] == ["id", "weight"]
        wanted = expected({"Fixed": Fixed, "Several": Several, "Unlike": Unlike}[model](), np.load(folder / "d.npy"))
        name = {"Fixed": "predictions", "Several": "rank", "Unlike": "words"}[model]
        values = np.float32(found[name]).tolist() if model == "Fixed" else found[name]
        assert values == wanted[name]


@pytest.mark.parametrize("suffix", [".parquet", ".zarr"])
def test_killed_and_resumed_it_is_the_same(suffix: str, folder: Path, tmp_path: Path) -> None:
    model = "Several" if suffix in (".zarr", ".h5") else "Unlike"
    once, again = tmp_path / f"once{suffix}", tmp_path / f"again{suffix}"
    assert predict(folder, model, "d.npy", once).code == 0
    options = ["--model-args", json.dumps({"flag": str(tmp_path / "flag"), "run": f"{again}.run", "calls": 60})]
    outcome = predict(folder, f"{model}Dies", "d.npy", again, *options, launcher="alone")
    assert outcome.code != 0
    assert (tmp_path / "flag").exists()
    partial = tmp_path / f"again{suffix}.partial"
    assert partial.stat().st_size > 5_000
    with partial.open("ab") as file:
        file.write(b"SPL1 a record that is torn")
    outcome = predict(folder, f"{model}Dies", "d.npy", again, *options, launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    report = json.loads((tmp_path / f"again{suffix}.run/report.json").read_text())
    assert report["resumed_rows"] > 100
    assert read_back(again) == read_back(once)
    assert not partial.exists()


@pytest.mark.parametrize("launcher", ["alone", "mpirun-3"])
def test_a_folder_of_files_that_ranks_write(launcher: str, folder: Path, tmp_path: Path) -> None:
    """Killed on the way, and resumed by two ranks: as one file would be, and data for a next job."""
    output, flag = tmp_path / "p.parquet", tmp_path / "flag"
    dies = {"flag": str(flag), "run": f"{output}.run", "calls": 30 if launcher == "mpirun-3" else 60}
    options = ["--collect", "shards", "--model-args", json.dumps(dies), "--keep", "id", "--columns", "rows"]
    assert predict(folder, "UnlikeDies", "d.parquet", output, *options, launcher=launcher).code != 0
    assert flag.exists()
    outcome = predict(folder, "UnlikeDies", "d.parquet", output, *options, launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    report = json.loads((tmp_path / "p.parquet.run/report.json").read_text())
    assert report["resumed_rows"] > 0
    wanted = expected(Unlike(), np.load(folder / "d.npy"))
    found = pa.parquet.read_table(output).to_pydict()
    assert found.pop("id") == [f"row {i}" for i in range(NUM_ROWS)]
    assert found == wanted
    assert main(["verify", str(output)]) == 0
    names = sorted(path.name for path in output.iterdir())
    assert names[0] == "_index.json"
    assert len(names) > 10
    assert not [name for name in names[1:] if not name.endswith(".parquet")]
    options = ["--columns", "first", "--output", "next.npy"]
    outcome = predict_here("--model", "zoo:Identity", "--data", "p.parquet", *options, folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "next.npy").tolist() == wanted["first"]
    part = output / names[3]
    part.write_bytes(part.read_bytes()[:-1] + b"!")
    assert main(["verify", str(output)]) == 65


@pytest.mark.parametrize("launcher", ["alone", "mpirun-3"])
def test_a_file_a_row(launcher: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (23, 5, 7, 3), dtype=np.uint8)
    pixels[11, 0, 0] = 0
    names = [f"{'left' if row % 2 else 'right'}/{row}.png" for row in range(len(pixels))]
    for name, image in zip(names, pixels, strict=True):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / name)
    common = ["--model", "sink_models:Masks", "--data", "images", "--batch-size", "4", "--on-error", "quarantine"]
    masks = [*common, "--keep", "path", "--output", "masks.png/"]
    outcome = run(predict_command(*masks, launcher=LAUNCHERS[launcher]), tmp_path)
    assert outcome.code == 0, outcome.output
    index = json.loads((tmp_path / "masks.png/_index.json").read_text())["files"]
    assert index == [f"{name}.png" for name in sorted(names)]
    for name, image in zip(names, pixels, strict=True):
        found = np.asarray(Image.open(tmp_path / "masks.png" / f"{name}.png")).astype(int)
        if name.endswith("/11.png"):
            assert (found == 255).all()  # the gap of a bad row
        else:
            assert np.array_equal(found, image.argmax(axis=2) * 150), name
    assert run_here("verify", "masks.png/", folder=tmp_path).code == 0
    (tmp_path / "masks.png" / index[3]).unlink()
    assert run_here("verify", "masks.png/", folder=tmp_path).code == 65
    assert predict_here(*masks, folder=tmp_path).code == 73  # it exists
    outcome = predict_here(*masks, "--overwrite", "--keep", "label", folder=tmp_path)
    assert outcome.code == 65
    assert "row 1 has 'left': an earlier row has it, too. Keep another column" in outcome.output, outcome.output
    outcome = predict_here(*common, "--output", "arrays.npy/", "--limit", "3", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert sorted(path.name for path in (tmp_path / "arrays.npy").glob("*.npy")) == ["0.npy", "1.npy", "2.npy"]
    assert np.load(tmp_path / "arrays.npy/1.npy").shape == (5, 7)


_BAD_NAMES = {
    "": "is empty",
    "a/": "ends in /",
    "/etc/x": "leads out of the folder",
    "a/../../x": "leads out of the folder",
    "a\0b": "holds a NUL",
    "x" * 252: "is longer than 255 bytes with its suffix",
    "\u00fc" * 130: "is longer than 255 bytes with its suffix",
    "row/0": "an earlier row has it, too",
    "./row//0": "an earlier row has it, too",
    "row/1.npy/x": "it is the name of another row's folder",
}


def test_names_are_checked_before_a_row_is_computed(tmp_path: Path) -> None:
    """On any rank; and the corrected command needs no --fresh."""
    rows = np.arange(40, dtype="f4")
    good = [f"row/{row}" for row in range(40)]
    job = ["--model", "zoo:Identity", "--data", "d.parquet", "--columns", "x", "--output", "rows.npy/", "--keep"]
    for launcher, names in (("here", _BAD_NAMES), ("mpirun-2", ["./row//0"])):
        for name in names:
            bad = [*good[:33], name, *good[34:]]
            pa.parquet.write_table(pa.table({"x": rows, "good": good, "bad": bad}), tmp_path / "d.parquet")
            if launcher == "here":
                outcome = predict_here(*job, "bad", folder=tmp_path)
            else:
                outcome = run(predict_command(*job, "bad", launcher=LAUNCHERS[launcher]), tmp_path)
            row = 1 if "folder" in _BAD_NAMES[name] and name.startswith("row") else 33
            words = f"row {row} has {bad[row]!r}: {_BAD_NAMES[name]}. Keep another column"
            assert (outcome.code, words in outcome.output) == (65, True), outcome.output
            assert not (tmp_path / "rows.npy").exists()
            assert not (tmp_path / "rows.npy.run/ledger.jsonl").exists()
    outcome = predict_here(*job, "good", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert float(np.load(tmp_path / "rows.npy/row/33.npy")) == 33


def test_a_death_between_the_name_and_the_report(folder: Path, tmp_path: Path) -> None:
    """The output has its name, and all that it was made of is still there: the same command finishes it."""
    output, run_folder = tmp_path / "p.parquet", tmp_path / "p.parquet.run"
    code = (
        "import sys, os, signal, runner.sinks.spool as spool\n"
        "spool.SpoolSink.discard = lambda self: None\n"
        "from runner.records.file_recorder import FileRecorder\n"
        "FileRecorder.write_report = lambda self, *texts: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from runner.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    options = ["--model", "sink_models:Unlike", "--data", "d.npy", "--output", output, "--batch-size", "8"]
    outcome = run([sys.executable, "-c", code, "predict", *options], folder)
    assert outcome.code == -signal.SIGKILL, outcome.output
    assert output.exists()
    whole = output.read_bytes()
    assert (tmp_path / "p.parquet.partial").exists()
    outcome = predict_here(*options, folder=folder)
    assert outcome.code == 0, outcome.output
    assert json.loads((run_folder / "report.json").read_text())["resumed_rows"] == NUM_ROWS
    assert output.read_bytes() == whole
    assert not (tmp_path / "p.parquet.partial").exists()
    assert predict_here(*options, folder=folder).code == 73  # it exists


def test_bad_rows_are_gaps(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "p.parquet"
    outcome = predict(
        folder, "Refuses", "d.parquet", output, "--keep", "id", "--columns", "rows", "--on-error", "quarantine"
    )
    assert outcome.code == 0, outcome.output
    bad = [json.loads(line)["row"] for line in (tmp_path / "p.parquet.run/quarantine.jsonl").read_text().splitlines()]
    rows = np.load(folder / "d.npy")
    assert bad == np.flatnonzero(rows[:, 1] > 1.5).tolist()
    found, wanted = read_back(output), expected(Unlike(), rows)
    assert found["id"] == [f"row {i}" for i in range(NUM_ROWS)]
    for row in range(NUM_ROWS):
        assert found["words"][row] == ("" if row in bad else wanted["words"][row])
        assert found["tokens"][row] == ([] if row in bad else wanted["tokens"][row])
        assert np.isnan(found["first"][row]) if row in bad else found["first"][row] == wanted["first"][row]


@pytest.mark.parametrize(
    ("model", "suffix", "message"),
    [
        ("Unlike", ".npy", ".npy cannot hold variable-length rows"),
        ("Unlike", ".csv", "CSV cannot hold 'spans'"),
        ("Unlike", ".h5", "HDF5 cannot hold 'tokens'"),
        ("Unlike", ".zarr", "Zarr cannot hold 'spans'"),
    ],
)
def test_what_a_format_cannot_hold(model: str, suffix: str, message: str, folder: Path, tmp_path: Path) -> None:
    outcome = predict(
        folder, model, "d.npy", tmp_path / f"p{suffix}", launcher="mpirun-2" if suffix == ".npy" else "here"
    )
    assert (outcome.code, outcome.output.count(message), outcome.output.count("runner: error")) == (64, 1, 1), (
        outcome.output
    )
