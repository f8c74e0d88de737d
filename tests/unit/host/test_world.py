"""What the environment says, and how many threads are fair."""

import contextlib
import os
import pty
import shlex
from pathlib import Path

import numpy as np
import pytest
from launch import environment, predict_command

from runner.host.launch import Launch, detect_launch, idle_tasks, set_horovod_defaults
from runner.host.process import process_start


@pytest.mark.parametrize(
    ("environ", "launch"),
    [
        ({}, Launch("none", 0, 1)),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, Launch("mpirun", 3, 4)),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, Launch("mpiexec", 1, 2)),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}, Launch("srun", 5, 8)),
        # a batch script of Slurm, which is no rank, though the job has tasks
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}, Launch("none", 0, 1)),
        # mpirun inside Slurm, whose daemons srun started
        (
            {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
            | {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "6"},
            Launch("mpirun", 6, 8),
        ),
        ({"HOROVOD_SIZE": "2", "HOROVOD_RANK": "1"}, Launch("horovodrun --gloo", 1, 2)),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "1"}, Launch("torchrun", 1, 2)),
        ({"WORLD_SIZE": "2", "RANK": "1"}, Launch("none", 0, 1)),  # of another program
        ({"OMPI_COMM_WORLD_SIZE": "many"}, Launch("none", 0, 1)),
    ],
)
def test_launch(environ: dict[str, str], launch: Launch) -> None:
    assert detect_launch(environ) == launch


@pytest.mark.launch
@pytest.mark.cold  # started by the shell itself
def test_a_command_that_is_typed_is_one_process(tmp_path: Path) -> None:
    """In a shell that a launcher has started, or that has the variables of one; its rank may not be 0."""
    np.save(tmp_path / "d.npy", np.zeros((9, 3), "f4"))
    stale = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "SLURM_NTASKS": "4"}
    command = predict_command("--model", "zoo:Identity", "--data", "d.npy", "--output", "p.npy")
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "-i"], environment(**stale))
    os.write(terminal, f"{shlex.join(map(str, command))}; exit\n".encode())
    printed = b""
    with contextlib.suppress(OSError):  # at the end of the shell
        while content := os.read(terminal, 1 << 16):
            printed += content
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, printed.decode()
    os.close(terminal)
    assert np.load(tmp_path / "p.npy").shape == (9, 3)
    assert printed.decode().count("Slurm gave this job 4 tasks, and one process is at work") == 1


def test_tasks_that_nothing_has_started(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("a\na\nb\n")
    for environ, says in (
        ({}, ""),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7"}, ""),
        (
            {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},
            "Slurm gave this job 4 tasks, and one process is at work",
        ),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, ""),
        ({"SLURM_NTASKS": "4", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, ""),
        ({"LSB_DJOB_NUMPROC": "8"}, "LSF gave this job 8 tasks, and one process is at work; put mpirun"),
        ({"PBS_NODEFILE": str(tmp_path / "nodes")}, "PBS gave this job 3 tasks"),
        ({"PBS_NODEFILE": str(tmp_path / "none")}, ""),
    ):
        assert idle_tasks(environ).startswith(says), environ
        assert bool(idle_tasks(environ)) == bool(says), environ


def test_horovod_defaults_leave_the_users_alone() -> None:
    environ = {"HOROVOD_CYCLE_TIME": "3"}
    set_horovod_defaults("cpu", environ)
    assert environ == {"HOROVOD_CYCLE_TIME": "3"}
    fresh: dict[str, str] = {}
    set_horovod_defaults("cpu", fresh)
    assert float(fresh["HOROVOD_CYCLE_TIME"]) > 1


def test_process_start_is_before_now_and_after_boot() -> None:
    import time

    assert 0 < time.time() - process_start() < 3600
