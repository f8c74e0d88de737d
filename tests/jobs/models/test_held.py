"""Whatever holds the numbers that decide an answer, other ranks have what rank 0 has."""

from pathlib import Path

import held
import numpy as np
import pytest
from launch import PROGRAMS, mpirun, python, run
from reference import random_rows


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_get_all_that_rank_0_has(ranks: int, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", random_rows(37, held.WIDTH))
    launcher = mpirun(ranks) if ranks > 1 else []
    outcome = run([*launcher, *python(), PROGRAMS / "ways.py", "rows.npy", "."], tmp_path)
    assert outcome.code == 0, outcome.output
    predictions = [np.load(tmp_path / f"{way.__name__}.npy") for way in held.WAYS]
    assert all(len(np.unique(rows, axis=0)) == 37 for rows in predictions)
    told = [line for line in outcome.output.splitlines() if "cannot be sent as it is" in line]
    assert len(told) == (2 if ranks > 1 else 0), outcome.output  # torch.export's, and what cannot be pickled
