"""The command on a real Slurm of two nodes: the batch script, mpirun inside a job, and what goes wrong."""

import contextlib
import json
import os
import pty
import shlex

import numpy as np
import pytest
from batch import SCRIPTS, await_end, show, start, submit

ONE_EACH = ["--nodes=2", "--ntasks-per-node=1"]
PMIX = ["srun", "-K1", "--mpi=pmix"]
CPUS = len(os.sched_getaffinity(0))
NO_SRUN = "Slurm gave this job node1, and this process runs on head; put srun --mpi=pmix before the command"
NO_CPUS = "Slurm gave this job 2 CPUs per task, and a rank may use 1; give srun, too, --cpus-per-task=2"


def test_the_batch_script_gives_the_bytes_of_one_process(slurm, job, tmp_path):
    output = tmp_path / "predictions.npy"
    state, code, said = submit(slurm, tmp_path, SCRIPTS / "slurm.sbatch", *job.arguments(output))
    assert (state, code) == ("COMPLETED", "0:0"), said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == ["node1", "node1", "node2", "node2"]


def test_mpirun_inside_a_job(slurm, job, tmp_path):
    output = tmp_path / "predictions.npy"
    script = tmp_path / "mpirun.sbatch"
    script.write_text('#!/bin/bash\nexec mpirun --bind-to none "$@"\n')
    state, code, said = submit(slurm, tmp_path, *ONE_EACH, script, *job.command(output))
    assert (state, code) == ("COMPLETED", "0:0"), said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == ["node1", "node2"]


def test_a_job_of_two_tasks_without_srun(slurm, job, tmp_path):
    output = tmp_path / "predictions.npy"
    script = tmp_path / "forgotten.sbatch"
    script.write_text('#!/bin/bash\nexec "$@"\n')
    state, code, said = submit(slurm, tmp_path, *ONE_EACH, script, *job.command(output))
    assert (state, code) == ("COMPLETED", "0:0"), said
    assert said.count("runner: warning: Slurm gave this job 2 tasks, and one process is at work; put srun") == 1, said
    assert job.hosts(output) == ["node1"]


@pytest.mark.parametrize(
    ("allocation", "ranks", "warnings"),
    [
        (["salloc", "-wnode1", "-n1", "COMMAND"], [f"head: {CPUS}"], [NO_SRUN]),  # on the login node
        (["salloc", "-wnode1", "-n1", "-c2", *PMIX, "--exact", "-n1", "COMMAND"], ["node1: 1"], [NO_CPUS]),
        ([*PMIX, "-n1", "COMMAND", ":", "-n1", "COMMAND"], ["node1: 1", "node2: 1"], []),
        ([*PMIX, "-wnode1", "-n2", "--overcommit", "COMMAND"], ["node1: 1", "node1: 1"], []),
    ],
    ids=["without srun", "fewer CPUs", "heterogeneous", "overcommit"],
)
def test_allocations_as_users_make_them(slurm, job, tmp_path, allocation, ranks, warnings):
    """As many ranks as tasks, as many threads as CPUs, or a warning; these nodes do not bind tasks to CPUs."""
    output = tmp_path / "predictions.npy"
    command = [*job.python(), "-m", "runner", "predict", *job.arguments(output)[:-2]]  # without --threads
    words = [part for word in allocation for part in (command if word == "COMMAND" else [word])]
    code, said = slurm.run("head", "env", "-u", "OMP_NUM_THREADS", *words)
    assert code == 0, said
    report = json.loads((tmp_path / "predictions.npy.run/report.json").read_text())
    places = [f"{rank['host']}: {rank['threads']}" for rank in report["ranks"]]
    assert places == ranks, said
    assert report["warnings"] == warnings, said


@pytest.mark.cold
def test_a_shell_that_srun_has_started(slurm, job, tmp_path):
    """The command is one process there; srun alone would wait for the end of that shell."""
    first, second = tmp_path / "first.npy", tmp_path / "second.npy"
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(job.folder)
        shell = slurm.on("head", "srun", "-wnode1", "-n2", "--pty", "bash", "--norc", "-i")
        os.execvpe(shell[0], shell, slurm.env)
    lines = shlex.join(map(str, job.command(first))), shlex.join(map(str, [*PMIX, "--overlap", *job.command(second)]))
    os.write(terminal, f"{'; '.join(lines)}; exit\n".encode())
    printed = b""
    with contextlib.suppress(OSError):  # at the end of the shell
        while content := os.read(terminal, 1 << 16):
            printed += content
    os.waitpid(pid, 0)
    os.close(terminal)
    said = printed.decode()
    assert said.count("Slurm gave this job 2 tasks, and one process is at work; put srun --overlap --mpi=pmix") == 1, (
        said
    )
    assert job.hosts(first) == ["node1"], said
    assert job.hosts(second) == ["node1", "node1"], said
    assert first.read_bytes() == second.read_bytes() == job.expected


def test_ranks_that_do_not_find_each_other_are_refused(slurm, job, tmp_path):
    """Open MPI 5 under --mpi=none starts as many jobs of one rank, each of which would write the output."""
    output = tmp_path / "predictions.npy"
    code, said = slurm.run("head", "srun", "-K1", "--mpi=none", *ONE_EACH, *job.command(output))
    assert code == 64, said
    assert said.count("runner: error") == 1, said
    assert "--mpi=pmix" in said
    assert not list(tmp_path.iterdir())


def test_a_rank_that_fails_ends_the_job_and_it_does_not_come_back(slurm, job, tmp_path):
    rows = np.zeros((4 * job.chunk_size, 8), np.float32)
    bad_row = 2 * job.chunk_size  # the first row of rank 2, which is on node2
    rows[bad_row] = -1
    np.save(tmp_path / "bad.npy", rows)
    output = tmp_path / "predictions.npy"
    arguments = job.arguments(output, model="Fails", data=tmp_path / "bad.npy")
    log = tmp_path / "job.log"
    job_id = start(slurm, log, SCRIPTS / "slurm-requeue.sbatch", *arguments)
    state, code, said = await_end(slurm, job_id, log)
    assert (state, code) == ("FAILED", "65:0"), said
    assert said.count("runner: error") == 1, said
    assert f"runner: error [rank 2 of 4 on node2]: the model failed on row {bad_row}: " in said
    assert "ValueError: a bad row" in said
    assert not output.exists()
    assert show(slurm, job_id)[0]["Restarts"] == "0"


def test_a_rank_that_does_not_start_ends_the_job(slurm, job, tmp_path):
    """A node without the file system of the virtual environment, say: MPI has not started, so cannot end the others."""
    (tmp_path / "sitecustomize.py").write_text("import os\nif os.environ['SLURM_PROCID'] == '1':\n    os._exit(3)\n")
    arguments = job.arguments(tmp_path / "predictions.npy")
    state, _, said = submit(slurm, tmp_path, *ONE_EACH, SCRIPTS / "slurm.sbatch", *arguments, PYTHONPATH=str(tmp_path))
    assert state == "FAILED", said
    assert "task 1: Exited with exit code 3" in said
