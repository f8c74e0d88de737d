"""Rolling rounds between real ranks."""

from pathlib import Path

import pytest
from launch import PROGRAMS, mpirun, python, run


@pytest.mark.parametrize(
    ("ranks", "seed", "comm", "collect"),
    [
        (1, 0, "horovod", "allgather"),
        (3, 2, "horovod", "alltoall"),
        (3, 4, "mpi", "alltoall"),
        (2, 6, "horovod", "direct"),
        # ranks that take turns, of which the last two of nine have nothing to send
        (9, 7, "horovod", "allgather"),
        (6, 9, "mpi", "allgather"),
    ],
)
def test_every_chunk_arrives_whole(ranks: int, seed: int, comm: str, collect: str, tmp_path: Path) -> None:
    command = [*mpirun(ranks), *python(), PROGRAMS / "collect.py", str(seed), comm, collect]
    outcome = run(command, tmp_path, timeout=250)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("all 200 chunks arrived") == 1
