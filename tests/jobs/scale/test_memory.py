"""Rank 0 holds a few chunks, never the output: its peak memory does not grow with it."""

import json
from pathlib import Path

import numpy as np
import pytest
from launch import mpirun, predict_command, run
from reference import random_rows

WIDTH = 4096  # float32: 16 KiB a row
MB = 1 << 20


def peak_of_rank_0(num_rows: int, folder: Path) -> int:
    """The most memory rank 0 held, by the kernel's count, in bytes.

    Rows are read and written with plain calls, not through memory maps, so no page of either file is in it.
    """
    np.save(folder / "d.npy", random_rows(num_rows, 1))
    options = ["--model", "zoo:Wide", "--model-args", json.dumps({"width": WIDTH}), "--data", "d.npy"]
    options += ["--output", "p.npy", "--batch-size", "64", "--overwrite"]
    outcome = run(predict_command(*options, launcher=mpirun(2)), folder, timeout=280)
    assert outcome.code == 0, outcome.output
    predictions = np.load(folder / "p.npy", mmap_mode="r")
    assert predictions.shape == (num_rows, WIDTH)
    assert np.array_equal(predictions[:: num_rows // 100, -1], np.load(folder / "d.npy")[:: num_rows // 100, 0])
    peak: int = json.loads((folder / "p.npy.run/report.json").read_text())["peak_rss_bytes"][0]
    (folder / "p.npy").unlink()
    return peak


@pytest.mark.cold
@pytest.mark.timeout(400)
def test_memory_does_not_grow_with_the_output(tmp_path: Path) -> None:
    small = peak_of_rank_0(100 * MB // (4 * WIDTH), tmp_path)
    large = peak_of_rank_0(4096 * MB // (4 * WIDTH), tmp_path)
    assert large - small < 300 * MB, f"{small / MB:.0f} MB for 100 MB of predictions, {large / MB:.0f} MB for 4 GB"
    print(f"rank 0: {small / MB:.0f} MB for 100 MB of predictions, {large / MB:.0f} MB for 4 GB")
