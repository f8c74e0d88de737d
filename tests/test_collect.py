"""Rolling rounds between real ranks."""

import sys
from pathlib import Path

import pytest
from launch import TESTS, mpirun, run


@pytest.mark.parametrize(
    ("ranks", "seed", "comm", "collect"),
    [
        (1, 0, "horovod", "allgather"),
        (2, 1, "horovod", "allgather"),
        (3, 2, "horovod", "alltoall"),
        (3, 3, "mpi", "allgather"),
        (4, 4, "mpi", "alltoall"),
        (3, 5, "horovod", "direct"),
        (9, 6, "horovod", "allgather"),
        (9, 7, "horovod", "alltoall"),
        (9, 9, "mpi", "allgather"),
    ],
)
@pytest.mark.timeout(120)
def test_every_chunk_arrives_whole(ranks: int, seed: int, comm: str, collect: str, tmp_path: Path) -> None:
    command = [*mpirun(ranks), sys.executable, TESTS / "jobs/collect.py", str(seed), comm, collect]
    outcome = run(command, tmp_path, timeout=110)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("all 200 chunks arrived") == 1
