"""Bad rows: found, set aside, and the others exactly as they would have been."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import zoo
from launch import LAUNCHERS, Outcome, predict_command, predict_here, run, run_here
from reference import plain_loop, random_rows

NUM_ROWS, NUM_BAD, BATCH_SIZE = 100_000, 1000, 32


def predict(folder: Path, *options: str, launcher: str = "here") -> Outcome:
    paths = ["--data", "d.npy", "--output", "p.npy", "--batch-size", str(BATCH_SIZE)]
    if launcher == "here":
        return predict_here(*paths, *options, folder=folder)
    return run(predict_command(*paths, *options, launcher=LAUNCHERS[launcher]), folder)


def quarantined(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "p.npy.run/quarantine.jsonl").read_text().splitlines()]


def test_a_thousand_bad_rows_in_a_hundred_thousand(tmp_path: Path) -> None:
    clean = random_rows(NUM_ROWS, 8)
    expected = plain_loop(zoo.mlp(), clean, BATCH_SIZE)
    rng = random.Random(3)
    bad = sorted({0, NUM_ROWS - 1, *range(320, 352), *rng.sample(range(NUM_ROWS), NUM_BAD - 34)})  # and a whole batch
    rows = clean.copy()
    for row in bad:
        rows[row, rng.randrange(2)] = rng.choice([np.nan, 1e7]) if row % 2 else -1e7
        rows[row, 0] = np.nan if row % 2 else rows[row, 0]
        rows[row, 1] = rows[row, 1] if row % 2 else -1e7
    np.save(tmp_path / "d.npy", rows)
    options = ["--model", "zoo:Picky", "--preprocess", "zoo:refuse_negative", "--on-error", "quarantine", "--overwrite"]
    files = []
    for launcher in ("here", "mpirun-3"):
        outcome = predict(tmp_path, *options, launcher=launcher)
        assert outcome.code == 0, outcome.output
        found = quarantined(tmp_path)
        assert [record["row"] for record in found] == bad
        assert {record["row"] for record in found if "ValueError: a row that is not" in str(record["error"])} == {
            row for row in bad if row % 2
        }
        assert all("zoo.py" in str(record["traceback"]) for record in found)
        report = json.loads((tmp_path / "p.npy.run/report.json").read_text())
        assert (report["quarantined_rows"], report["computed_rows"]) == (len(bad), NUM_ROWS - len(bad))
        assert report["status"] == "whole"
        files.append((tmp_path / "p.npy").read_bytes())
        verified = run_here("verify", "p.npy", folder=tmp_path)
        assert verified.code == 0
        assert f"as computed; {len(bad):,} of them bad: see p.npy.run/quar" in verified.output
    assert files[0] == files[1]
    predictions = np.load(tmp_path / "p.npy")
    assert np.isnan(predictions[bad]).all()
    good = np.setdiff1d(np.arange(NUM_ROWS), bad)
    assert predictions[good].tobytes() == expected[good].tobytes()


@pytest.mark.parametrize(
    ("dtype", "gap"), [("float16", np.nan), ("int64", -1), ("uint8", 255), ("bool", False), ("float64", np.nan)]
)
def test_the_gap_is_of_the_outputs_dtype(dtype: str, gap: object, tmp_path: Path) -> None:
    rows = random_rows(97, 8)
    rows[40, 0] = np.nan
    np.save(tmp_path / "d.npy", rows)
    model = ["--model", "zoo:Picky", "--model-args", json.dumps({"dtype": dtype})]
    outcome = predict(tmp_path, *model, "--on-error", "quarantine")
    assert outcome.code == 0, outcome.output
    predictions = np.load(tmp_path / "p.npy")
    assert predictions.dtype == dtype
    assert np.array_equal(predictions[40], np.full(10, gap, dtype), equal_nan=dtype.startswith("float"))


def test_stop_names_the_row_and_quarantine_goes_on_from_there(tmp_path: Path) -> None:
    rows = random_rows(1797, 8)
    rows[1700, 0] = np.nan
    np.save(tmp_path / "d.npy", rows)
    outcome = predict(tmp_path, "--model", "zoo:Picky", launcher="mpirun-2")
    assert outcome.code == 65, outcome.output
    assert outcome.output.count("runner: error") == 1
    assert "the model failed on row 1700: ValueError: a row that is not a number" in outcome.output
    outcome = predict(tmp_path, "--model", "zoo:Picky", "--on-error", "quarantine")
    assert outcome.code == 0, outcome.output
    assert "1,797 rows -> p.npy (complete, 1 of them in quarantine" in outcome.output
    assert [record["row"] for record in quarantined(tmp_path)] == [1700]


def test_too_many_bad_rows_stop_the_job(tmp_path: Path) -> None:
    rows = random_rows(1797, 8)
    rows[::100, 0] = np.nan  # 18
    np.save(tmp_path / "d.npy", rows)
    options = ["--model", "zoo:Picky", "--on-error", "quarantine", "--max-bad"]
    outcome = predict(tmp_path, *options, "17", launcher="mpirun-2")
    assert outcome.code == 65, outcome.output
    assert outcome.output.count("runner: error") == 1
    assert "18 bad rows, more than --max-bad 17. The latest is row " in outcome.output
    assert not (tmp_path / "p.npy").exists()
    outcome = predict(tmp_path, *options, "18")
    assert outcome.code == 0, outcome.output
    assert len(quarantined(tmp_path)) == 18


def test_a_device_that_is_broken_ends_the_job(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(1797, 8))
    outcome = predict(tmp_path, "--model", "zoo:Breaks", "--on-error", "quarantine")
    assert outcome.code == 65, outcome.output
    assert "and so does row 0, which worked before: the rows are not the cause" in outcome.output
    assert not (tmp_path / "p.npy").exists()


def test_no_row_works(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.full((97, 8), np.nan, np.float32))
    outcome = predict(tmp_path, "--model", "zoo:Picky", "--on-error", "quarantine")
    assert outcome.code == 65, outcome.output
    assert "the model failed on row 0: ValueError" in outcome.output


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_predictions_that_are_not_finite_are_counted(dtype: str, tmp_path: Path) -> None:
    rows = np.abs(random_rows(1797, 4)) + 1
    rows[::100, 2] = 0  # 18
    rows[50, 1] = np.nan
    np.save(tmp_path / "d.npy", rows)
    model = ["--model", "zoo:Reciprocal", "--model-args", json.dumps({"dtype": dtype})]
    outcome = predict(tmp_path, *model, launcher="mpirun-2" if dtype == "float32" else "here")
    assert outcome.code == 0, outcome.output
    assert "19 with predictions that are not finite" in outcome.output
    assert json.loads((tmp_path / "p.npy.run/manifest.json").read_text())["nonfinite_rows"] == 19
    report = json.loads((tmp_path / "p.npy.run/report.json").read_text())
    assert (report["nonfinite_rows"], report["quarantined_rows"], report["computed_rows"]) == (19, 0, 1797)
    assert np.isfinite(np.load(tmp_path / "p.npy")).sum() == 1797 * 4 - 19


def test_large_but_finite_predictions_are_not_counted(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.full((97, 4), 3e-39, np.float32))  # their reciprocals sum up to infinity
    assert predict(tmp_path, "--model", "zoo:Reciprocal").code == 0
    assert np.isfinite(np.load(tmp_path / "p.npy")).all()
    assert json.loads((tmp_path / "p.npy.run/report.json").read_text())["nonfinite_rows"] == 0


def test_predictions_that_are_not_finite_are_set_aside(tmp_path: Path) -> None:
    rows = np.abs(random_rows(1797, 4)) + 1
    rows[::100, 2] = 0
    np.save(tmp_path / "d.npy", rows)
    files = []
    for launcher in ("here", "mpirun-2"):
        options = ["--model", "zoo:Reciprocal", "--on-nonfinite", "quarantine", "--overwrite"]
        outcome = predict(tmp_path, *options, launcher=launcher)
        assert outcome.code == 0, outcome.output
        found = quarantined(tmp_path)
        assert [record["row"] for record in found] == list(range(0, 1797, 100))
        assert {record["error"] for record in found} == {"the prediction is not finite"}
        files.append((tmp_path / "p.npy").read_bytes())
    assert files[0] == files[1]
    predictions = np.load(tmp_path / "p.npy")
    assert np.isnan(predictions[::100]).all()
    good = np.setdiff1d(np.arange(1797), np.arange(0, 1797, 100))
    assert np.array_equal(predictions[good], 1 / rows[good])


MIB = 1 << 20
HUNGRY = ["--model", "zoo:Hungry", "--model-args"]


@pytest.mark.parametrize("launcher", ["alone", "mpirun-2"])
def test_too_little_memory_halves_the_batch(launcher: str, tmp_path: Path) -> None:
    rows = random_rows(200, 8)
    rows[[7, 70], 0] = np.nan
    np.save(tmp_path / "d.npy", rows)
    # 32 rows want 1,280 MiB and 8 rows 320 MiB, of 400 MiB: all batches but the last, of 8 rows, are too large
    arguments = json.dumps({"row_bytes": 40 * MIB, "limit_bytes": 400 * MIB})
    outcome = predict(tmp_path, *HUNGRY, arguments, "--on-error", "quarantine", launcher=launcher)
    assert outcome.code == 0, outcome.output
    assert "192 in smaller batches after out of memory" in outcome.output
    assert [record["row"] for record in quarantined(tmp_path)] == [7, 70]
    manifest = json.loads((tmp_path / "p.npy.run/manifest.json").read_text())
    assert manifest["halved_batches"] == [[first, first + 32] for first in range(0, 192, 32)]
    predictions, expected = np.load(tmp_path / "p.npy"), plain_loop(zoo.mlp(), rows, 8)
    good = np.setdiff1d(np.arange(200), [7, 70])
    assert np.allclose(predictions[good], expected[good], rtol=1e-5, atol=1e-6)
    assert np.isnan(predictions[[7, 70]]).all()


def test_too_little_memory_and_a_bad_row(tmp_path: Path) -> None:
    rows = random_rows(200, 8)
    rows[70, 0] = np.nan
    np.save(tmp_path / "d.npy", rows)
    arguments = json.dumps({"row_bytes": 40 * MIB, "limit_bytes": 400 * MIB})
    outcome = predict(tmp_path, *HUNGRY, arguments, launcher="alone")
    assert outcome.code == 65, outcome.output
    assert "the model failed on row 70: ValueError: a row that is not a number" in outcome.output


def test_too_little_memory_for_one_row(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(200, 8))
    arguments = json.dumps({"row_bytes": 400 * MIB, "limit_bytes": 40 * MIB})
    outcome = predict(tmp_path, *HUNGRY, arguments, "--on-error", "quarantine", launcher="alone")
    assert outcome.code == 65, outcome.output
    assert "the model failed on row 0: RuntimeError: " in outcome.output
    assert "DefaultCPUAllocator" in outcome.output
