"""The command on a real Slurm of two nodes: the batch script, mpirun inside a job, and what goes wrong."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/slurm.sbatch"
ONE_EACH = ["--nodes=2", "--ntasks-per-node=1"]


def submit(slurm, tmp_path: Path, *script: object, timeout: float = 90, **env: str) -> tuple[str, str, str]:
    """Submit a batch script and wait for the end of the job.

    Returns:
        (state, exit code as Slurm writes it, what the job wrote).
    """
    log = tmp_path / "job.log"
    code, said = slurm.run("head", "sbatch", "--parsable", f"--output={log}", *script, RUNNER_VENV=sys.prefix, **env)
    assert code == 0, said
    job_id = said.strip()
    give_up = time.monotonic() + timeout
    while True:
        _, shown = slurm.run("head", "scontrol", "show", "job", "--oneliner", job_id)
        fields = dict(word.split("=", 1) for word in shown.split() if "=" in word)
        if fields["JobState"] not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
            return fields["JobState"], fields["ExitCode"], log.read_text()
        if time.monotonic() > give_up:
            slurm.run("head", "scancel", job_id)
            raise AssertionError(f"{fields['JobState']} after {timeout} s: {log.read_text() if log.exists() else ''}")
        time.sleep(0.2)


@pytest.mark.timeout(200)
def test_the_batch_script_gives_the_bytes_of_one_process(slurm, job, tmp_path):
    output = tmp_path / "predictions.npy"
    state, code, said = submit(slurm, tmp_path, SCRIPT, *job.arguments(output))
    assert (state, code) == ("COMPLETED", "0:0"), said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == ["node1", "node1", "node2", "node2"]


@pytest.mark.timeout(200)
def test_mpirun_inside_a_job(slurm, job, tmp_path):
    output = tmp_path / "predictions.npy"
    script = tmp_path / "mpirun.sbatch"
    script.write_text('#!/bin/bash\nexec mpirun --bind-to none "$@"\n')
    state, code, said = submit(slurm, tmp_path, *ONE_EACH, script, *job.command(output))
    assert (state, code) == ("COMPLETED", "0:0"), said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == ["node1", "node2"]


@pytest.mark.timeout(200)
def test_a_hostfile_of_the_job(slurm, job, tmp_path):
    output, hostfile = tmp_path / "predictions.npy", tmp_path / "hostfile"
    script = tmp_path / "hosts.sbatch"
    script.write_text(
        f"#!/bin/bash\n{sys.executable} -m runner hosts > {hostfile} || exit\n"
        f'exec mpirun --bind-to none --hostfile {hostfile} "$@"\n'
    )
    state, code, said = submit(slurm, tmp_path, "--nodes=2", "--ntasks-per-node=2", script, *job.command(output))
    assert (state, code) == ("COMPLETED", "0:0"), said
    assert hostfile.read_text() == "node1 slots=2\nnode2 slots=2\n"
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == ["node1", "node1", "node2", "node2"]


@pytest.mark.timeout(200)
def test_ranks_that_do_not_find_each_other_are_refused(slurm, job, tmp_path):
    """Open MPI 5 under --mpi=none starts as many jobs of one rank, each of which would write the output."""
    output = tmp_path / "predictions.npy"
    code, said = slurm.run("head", "srun", "-K1", "--mpi=none", *ONE_EACH, *job.command(output))
    assert code == 64, said
    assert said.count("runner: error") == 1, said
    assert "--mpi=pmix" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.timeout(200)
def test_a_rank_that_fails_ends_the_job(slurm, job, tmp_path):
    rows = np.zeros((4 * job.chunk_size, 8), np.float32)
    bad_row = 2 * job.chunk_size  # the first row of rank 2, which is on node2
    rows[bad_row] = -1
    np.save(tmp_path / "bad.npy", rows)
    output = tmp_path / "predictions.npy"
    arguments = job.arguments(output, model="Fails", data=tmp_path / "bad.npy")
    state, code, said = submit(slurm, tmp_path, SCRIPT, *arguments)
    assert (state, code) == ("FAILED", "65:0"), said
    assert said.count("runner: error") == 1, said
    assert f"runner: error [rank 2 of 4 on node2]: the model failed on row {bad_row}: " in said
    assert "ValueError: a bad row" in said
    assert not output.exists()


@pytest.mark.timeout(200)
def test_a_rank_that_does_not_start_ends_the_job(slurm, job, tmp_path):
    """A node without the file system of the virtual environment, say: MPI has not started, so cannot end the others."""
    (tmp_path / "sitecustomize.py").write_text("import os\nif os.environ['SLURM_PROCID'] == '1':\n    os._exit(3)\n")
    arguments = job.arguments(tmp_path / "predictions.npy")
    state, _, said = submit(slurm, tmp_path, *ONE_EACH, SCRIPT, *arguments, PYTHONPATH=str(tmp_path))
    assert state == "FAILED", said
    assert "task 1: Exited with exit code 3" in said
