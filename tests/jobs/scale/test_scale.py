"""Many more ranks than cores, and than there is work for; and the benchmark that tells what grows with their number."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import zoo
from launch import ROOT, environment, horovodrun, mpirun, predict_command, run, script
from reference import plain_loop, random_rows

BENCH = ROOT / "scripts/bench"
BATCH_SIZE = 32
sys.path.insert(0, str(BENCH))


@pytest.mark.parametrize(
    ("launcher", "ranks", "num_rows", "options"),
    [
        (mpirun, 32, 800, ["--collect", "alltoall"]),  # 25 batches: seven ranks have nothing to do
        (horovodrun, 16, 300, ["--schedule", "dynamic"]),  # 10 batches
    ],
    ids=["mpirun-32", "horovodrun-16"],
)
@pytest.mark.timeout(700)
def test_more_ranks_than_chunks(launcher, ranks: int, num_rows: int, options: list[str], tmp_path: Path) -> None:
    rows = random_rows(num_rows, 8)
    np.save(tmp_path / "d.npy", rows)
    job = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--batch-size", str(BATCH_SIZE), *options]
    env = environment(OMPI_MCA_mpi_yield_when_idle="1")  # mpirun sets it with --oversubscribe, horovodrun does not
    outcome = run(predict_command(*job, launcher=launcher(ranks)), tmp_path, timeout=600, env=env)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").tobytes() == plain_loop(zoo.mlp(), rows, BATCH_SIZE).tobytes()
    report = json.loads((tmp_path / "p.npy.run/report.json").read_text())
    assert report["world_size"] == len(report["ranks"]) == ranks
    shares = sorted(rank["rows"] for rank in report["ranks"])
    assert sum(shares) == num_rows
    assert shares[0] == 0


@pytest.mark.timeout(300)
def test_the_benchmark(tmp_path: Path) -> None:
    command = script(BENCH / "scale.py", "--ranks", "1", "2", "3", "--repeats", "1", "--wide-chunks", "1")
    outcome = run(command, tmp_path, timeout=280, env=environment())
    assert outcome.code == 0, outcome.output
    runs = json.loads((tmp_path / "scale/scale.json").read_text())
    assert {ranks: len(launches[0]["ranks"]) for ranks, launches in runs.items()} == {"1": 1, "2": 2, "3": 3}
    for launches in runs.values():
        for rank in launches[0]["ranks"]:
            imports, joining, start, end = (rank["marks"][name] for name in rank["marks"])
            assert 0 < imports[1] < joining[1] < start[1] < end[1]
            assert 0 < imports[0] < joining[0] < start[0] < end[0] < launches[0]["seconds"]
    memory = [rank["horovod alltoall memory"] for rank in runs["3"][0]["ranks"]]
    assert memory[0] > memory[1]  # all predictions go there
    text = (tmp_path / "scale/scale.md").read_text()
    assert text.count("| round: mpi alltoall |") == 2
    assert (tmp_path / "scale/scale.png").stat().st_size > 10_000


def test_the_fit_finds_what_was_planted() -> None:
    from scale_model import fit, terms

    points = [(n, b) for n in (1, 2, 4, 8, 16, 32, 64) for b in (0, 1 << 16, 1 << 20)]
    rng = np.random.default_rng(0)
    for planted in ([1.3, 0.0, 4e-2, 0.0, 0.0], [1e-3, 2e-4, 0.0, 0.0, 1e-10], [0.0, 0.0, 1e-5, 3e-10, 2e-10]):
        exact = np.array([np.dot(planted, terms(*point)) for point in points])
        assert fit(points, exact) == pytest.approx(planted, rel=1e-6, abs=1e-15)
        noisy = fit(points, exact * rng.uniform(0.97, 1.03, len(exact)))
        assert noisy[np.array(planted) > 0] == pytest.approx([value for value in planted if value], rel=0.2)
        assert np.dot(noisy, terms(4096, 1 << 14)) == pytest.approx(np.dot(planted, terms(4096, 1 << 14)), rel=0.3)
    falling = fit([(n, 0) for n in (1, 2, 4, 8)], [8, 4, 2, 1])
    assert (falling >= 0).all()  # and a model that does not fit, not one that is negative further on
