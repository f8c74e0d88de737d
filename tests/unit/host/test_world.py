"""What the environment says, and how many threads are fair."""

import contextlib
import os
import pty
import shlex
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from launch import PATIENCE, environment, predict_command, predict_here, run

from runner.host.launch import Launch, detect_launch, set_horovod_defaults
from runner.host.process import has_launcher_above, process_start
from runner.host.scheduler import in_slurm_job, job_end

PYTORCH = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost"}


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
        ({"CROSS_SIZE": "1", **PYTORCH}, Launch("deepspeed", 1, 2)),
        ({"ACCELERATE_USE_CPU": "no", "TORCHELASTIC_RUN_ID": "none", **PYTORCH}, Launch("accelerate launch", 1, 2)),
        (PYTORCH, Launch("a launcher of PyTorch processes (MASTER_ADDR, RANK and WORLD_SIZE are set)", 1, 2)),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", **PYTORCH}, Launch("mpirun", 3, 4)),
        ({"OMPI_COMM_WORLD_SIZE": "many"}, Launch("none", 0, 1)),
        ({"MV2_COMM_WORLD_SIZE": "4", "MV2_COMM_WORLD_RANK": "3"}, Launch("mpirun_rsh", 3, 4)),
        ({"JSM_NAMESPACE_SIZE": "4", "JSM_NAMESPACE_RANK": "3"}, Launch("jsrun", 3, 4)),
        # Flux, with PMI's variables (MPICH) and without them (Open MPI by PMIx)
        ({"FLUX_JOB_SIZE": "4", "FLUX_TASK_RANK": "3", "PMI_SIZE": "4", "PMI_RANK": "3"}, Launch("flux run", 3, 4)),
        ({"FLUX_JOB_SIZE": "4", "FLUX_TASK_RANK": "3"}, Launch("flux run", 3, 4)),
        # mpiexec inside a task of Flux
        ({"FLUX_JOB_SIZE": "1", "FLUX_TASK_RANK": "0", "PMI_SIZE": "4", "PMI_RANK": "0"}, Launch("mpiexec", 0, 4)),
        (
            {"PALS_RANKID": "3", "PALS_LOCAL_RANKID": "1", "PMI_SIZE": "4", "PMI_RANK": "3"},
            Launch("mpiexec of PALS", 3, 4),
        ),
        ({"PALS_RANKID": "3", "PALS_LOCAL_RANKID": "1"}, Launch("mpiexec of PALS without PMI_SIZE", 3, 4)),
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
    terminal, end = pty.openpty()  # and no fork of this process, which may hold much memory
    shell = ["setsid", "--ctty", "--wait", "bash", "--norc", "-i"]
    process = subprocess.Popen(shell, cwd=tmp_path, env=environment(**stale), stdin=end, stdout=end, stderr=end)
    os.close(end)
    os.write(terminal, f"{shlex.join(map(str, command))}; exit\n".encode())
    printed = b""
    with contextlib.suppress(OSError):  # at the end of the shell
        while content := os.read(terminal, 1 << 16):
            printed += content
    assert process.wait() == 0, printed.decode()
    os.close(terminal)
    assert np.load(tmp_path / "p.npy").shape == (9, 3)
    assert printed.decode().count("Slurm gave this job 4 tasks, and one process is at work") == 1


@pytest.mark.launch
@pytest.mark.cold
def test_what_an_earlier_job_has_left_is_told_and_stops_nothing(tmp_path: Path) -> None:
    """The processes' parents have ended, as in tmux; none is a launcher or a daemon of Slurm's."""
    np.save(tmp_path / "d.npy", np.zeros((9, 3), "f4"))
    rank = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "SLURM_JOB_ID": "7"}
    soon = str(int(time.time()) + 1)
    cases = {
        "mpirun": (
            rank,
            64,
            "mpirun started this process as rank 2 of 4, but no launcher is above it: the variables are",
        ),
        "gone": ({**rank, "PMIX_SERVER_TMPDIR": "/nowhere"}, 64, "an earlier job (SLURM_JOB_ID 7), in which the shell"),
        "torchrun": ({"TORCHELASTIC_RUN_ID": "x", **PYTORCH}, 64, "is not at work any more, unset its variables"),
        "Slurm": (
            {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": soon, "SLURM_NTASKS": "4"},
            0,
            "runner: warning: Slurm's variables are left over from job 7, of which this process is no part",
        ),
    }
    if os.readlink("/proc/self/ns/pid") != "pid:[4026531836]":  # a launcher may be outside, or Slurm
        del cases["mpirun"], cases["gone"]  # its rank 0 would tell
        cases["torchrun"] = (*cases["torchrun"][:2], "started by torchrun, which starts no MPI: ")
        cases["Slurm"] = (*cases["Slurm"][:2], "Slurm gave this job 4 tasks, and one process is at work; put srun")
    for name, (variables, *_) in cases.items():
        options = ("--model", "zoo:Identity", "--data", "d.npy", "--output", f"{name}.npy", "--comm", "mpi")
        script = f'("$@" >{name}.log 2>&1; echo $? >{name}.part; mv {name}.part {name}.code) &'
        command = ["sh", "-c", script, "sh", *predict_command(*options)]
        assert run(command, tmp_path, env=environment(**variables)).code == 0
    for name, (_, code, says) in cases.items():
        give_up = time.monotonic() + PATIENCE
        while not (path := tmp_path / f"{name}.code").exists():
            assert time.monotonic() < give_up, name
            time.sleep(0.1)
        printed = (tmp_path / f"{name}.log").read_text()
        assert (int(path.read_text()), printed.count(says)) == (code, 1), (name, printed)
        assert printed.count("runner: error") == bool(code)


def test_an_end_that_is_over_stops_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "d.npy", np.zeros((9, 3), "f4"))
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1700000000")
    outcome = predict_here("--model", "zoo:Identity", "--data", "d.npy", "--output", "p.npy", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("runner: warning: SLURM_JOB_END_TIME, 2023-11-1") == 1
    assert job_end({"SLURM_JOB_END_TIME": "4000000000"}) == 4e9


def test_the_control_group_tells_whose_variables_they_are(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    for text, job, more, is_own in (
        ("0::/system.slice/slurmstepd.scope/job_12/step_0/user/task_0\n", "12", {}, True),
        ("0::/system.slice/slurmstepd.scope/job_12/step_0/user/task_0\n", "7", {}, False),
        ("4:memory:/slurm/uid_1000/job_12/step_batch\n0::/\n", "12", {}, True),
        ("4:memory:/slurm/uid_1000/job_12/step_batch\n0::/\n", "1", {}, False),
        ("0::/system.slice/slurmstepd.scope/job_13/step_0\n", "12", {"SLURM_HET_SIZE": "2"}, True),
    ):
        groups.write_text(text)
        above = has_launcher_above(also="salloc") is not False
        expected = is_own if not more else above  # of the parts of such a job, the group cannot tell
        assert in_slurm_job({"SLURM_JOB_ID": job, **more}, str(groups)) == expected, text
    assert in_slurm_job({}, str(groups))


def test_horovod_defaults_leave_the_users_alone() -> None:
    environ = {"HOROVOD_CYCLE_TIME": "3"}
    set_horovod_defaults("cpu", environ)
    assert environ == {"HOROVOD_CYCLE_TIME": "3"}
    fresh: dict[str, str] = {}
    set_horovod_defaults("cpu", fresh)
    assert float(fresh["HOROVOD_CYCLE_TIME"]) > 1


def test_process_start_is_before_now_and_after_boot() -> None:
    assert 0 < time.time() - process_start() < 3600
