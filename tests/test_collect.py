"""Rolling rounds between real ranks."""

import sys
from pathlib import Path

import pytest
from launch import TESTS, mpirun, run


@pytest.mark.parametrize(("ranks", "seed"), [(1, 0), (2, 1), (3, 2), (4, 3), (9, 4)])
@pytest.mark.timeout(120)
def test_every_chunk_arrives_whole(ranks: int, seed: int, tmp_path: Path) -> None:
    outcome = run([*mpirun(ranks), sys.executable, TESTS / "jobs/collect.py", str(seed)], tmp_path, timeout=110)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("all 200 chunks arrived") == 1
