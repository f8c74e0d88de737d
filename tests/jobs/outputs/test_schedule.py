"""Who is free takes the next rows: one slow rank does not make the others wait."""

import json
from pathlib import Path

import numpy as np
import zoo
from launch import LAUNCHERS, predict_command, run
from reference import plain_loop, random_rows

NUM_ROWS, BATCH_SIZE, SLOW = 1797, 8, 4


def rows_of_ranks(folder: Path, schedule: str) -> list[int]:
    """Each rank's rows, where rank 1 takes SLOW times as long as the others for a batch."""
    model = ["--model", "zoo:OneIsSlow", "--model-args", json.dumps({"rank": 1, "seconds": 0.02, "factor": SLOW})]
    paths = ["--data", "d.npy", "--output", f"{schedule}.npy", "--batch-size", str(BATCH_SIZE)]
    outcome = run(predict_command(*model, *paths, "--schedule", schedule, launcher=LAUNCHERS["mpirun-3"]), folder)
    assert outcome.code == 0, outcome.output
    report = json.loads((folder / f"{schedule}.npy.run/report.json").read_text())
    return [rank["rows"] for rank in report["ranks"]]


def test_a_slow_rank_gets_less_to_do(tmp_path: Path) -> None:
    rows = random_rows(NUM_ROWS, 8)
    np.save(tmp_path / "d.npy", rows)
    static, dynamic = rows_of_ranks(tmp_path, "static"), rows_of_ranks(tmp_path, "dynamic")
    assert max(static) - min(static) <= 2 * BATCH_SIZE
    assert sum(dynamic) == NUM_ROWS
    assert dynamic[1] < 0.25 * NUM_ROWS  # by its speed it is a ninth
    assert min(dynamic[0], dynamic[2]) > 0.25 * NUM_ROWS
    expected = plain_loop(zoo.mlp(), rows, BATCH_SIZE).tobytes()
    assert np.load(tmp_path / "static.npy").tobytes() == np.load(tmp_path / "dynamic.npy").tobytes() == expected
