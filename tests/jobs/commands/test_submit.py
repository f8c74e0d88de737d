"""`python -m runner submit`: what every launcher is given, run where it can be run here; Slurm in cluster/."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import BIN, PATIENCE, Outcome, environment, finish, run, start
from reference import random_rows
from torch import nn

from runner.cli.main import main

DATA = 'it\'s "all" of $HOME.npy'  # a name that a shell would spoil
PREDICT = ["--model", "zoo:mlp", "--model-args", '{"width": 4}', "--data", DATA, "--output", "p q.npy"]
HERE = ["--ranks-per-node", "3", "--cpus-per-rank", "4"]
BATCH = [*HERE, "--nodes", "2", "--time", "2:30:00", "--partition", "p", "--account", "a", "--directive=-x y"]
# what the rest of a scheduler does with a script: run it on the first host of the job
SCHEDULER = "#!/bin/bash\nexport {variables}\nexec bash -s\n"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["submit", "--print", *arguments]) == 0
    return capsys.readouterr().out


def words_of_predict(text: str) -> list[str]:
    """The arguments that a script gives to predict."""
    line = next(line for line in text.splitlines() if " runner predict " in line)
    words = shlex.split(line.removesuffix(" &"))
    start = words.index("predict")
    assert words[start - 4 : start] == [sys.executable, "-P", "-m", "runner"]
    return words[start + 1 :]


def submit_here(folder: Path, launcher: str, *options: str, **variables: str) -> Outcome:
    """Submit from a folder with the data, without an activated virtual environment."""
    env = environment(PATH=f"{folder}:/usr/bin:/bin", **variables)
    return run([sys.executable, "-m", "runner", "submit", "--launcher", launcher, *options, *PREDICT], folder, env=env)


def program(folder: Path, name: str, text: str) -> None:
    """A program for PATH."""
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / DATA, random_rows(97, 8))
    return tmp_path


@pytest.mark.parametrize(
    ("launcher", "options", "added"),
    [
        ("slurm", [], ["--threads", "1"]),
        ("slurm", BATCH, ["--threads", "4"]),
        ("slurm", ["--requeue"], ["--threads", "1"]),
        ("pbs", [], ["--threads", "1", "--time-limit", "3480"]),
        ("pbs", BATCH, ["--threads", "4", "--time-limit", "8880"]),
        ("lsf", [], ["--threads", "1", "--time-limit", "3480"]),
        ("lsf", BATCH, ["--threads", "4", "--time-limit", "8880"]),
        ("mpirun", [], []),
        ("mpirun", HERE, ["--threads", "4"]),
        ("horovodrun", [], []),
        ("horovodrun", HERE, ["--threads", "4"]),
    ],
)
def test_every_text_is_a_good_script(
    launcher: str, options: list[str], added: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = printed(capsys, "--launcher", launcher, *options, *PREDICT)
    script = tmp_path / "script"
    script.write_text(text)
    shellcheck = [str(BIN / "shellcheck"), "--shell=bash", "--exclude=SC2016"]  # the data's name looks like a variable
    for check in (["bash", "-n"], shellcheck):
        done = subprocess.run([*check, str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert words_of_predict(text) == [*PREDICT, *added]


def test_what_each_scheduler_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Two nodes, three ranks each, four CPUs and a GPU a rank."""
    asked = {
        "slurm": "--time=2:30:00 --signal=B:USR1@120 --nodes=2 --ntasks-per-node=3 --cpus-per-task=4 "
        "--gpus-per-task=1 --mem=64G --partition=p --account=a -x y",
        "pbs": "-S /bin/bash -l walltime=2:30:00 -l select=2:ncpus=12:mpiprocs=3:ompthreads=4:ngpus=3:mem=64gb "
        "-l place=scatter -q p -A a -x y",
        "lsf": '-W 2:30 -n 24 -R "span[ptile=12]" -gpu "num=3/host" -q p -P a -x y',
    }
    for launcher, wanted in asked.items():
        memory = [] if launcher == "lsf" else ["--memory", "64G"]
        text = printed(capsys, "--launcher", launcher, *BATCH, "--gpus", *memory, *PREDICT)
        lines = re.findall(r"^#(?:SBATCH|PBS|BSUB) (.*)", text, re.MULTILINE)
        assert wanted in " ".join(line for line in lines if "predict" not in line and line != "-j oe")
        assert words_of_predict(text)[-4 if launcher != "slurm" else -2 :][:2] == ["--device", "cuda"]


def test_what_the_user_has_given_is_left(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "job.toml"
    config.write_text('threads = 2\ntime-limit = 60\ndevice = "auto"\n')
    more = ["--config", str(config)]
    text = printed(capsys, "--launcher", "pbs", "--gpus", "--cpus-per-rank", "8", *PREDICT, *more)
    assert words_of_predict(text) == [*PREDICT, *more]


class Where(nn.Module):
    """Answers with the lowest and the highest CPU that its rank may run on."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        cpus = os.sched_getaffinity(0)
        return torch.tensor([[min(cpus), max(cpus)]]).expand(len(rows), 2).clone()


def test_launchers_start_at_once_and_two_jobs_share_no_core(folder: Path) -> None:
    """Launchers that bind do not know of each other: both jobs would get the first cores of the host."""
    (folder / "my hosts").write_text("localhost slots=2\n")
    jobs = []
    for launcher in ("mpirun", "horovodrun"):
        submit = [sys.executable, "-m", "runner", "submit", "--launcher", launcher, "--hostfile", "my hosts"]
        job = [*submit, "--cpus-per-rank", "1", *PREDICT, "--output", f"{launcher}.npy", "--model", "test_submit:Where"]
        jobs.append(start([*job, "--model-args", "{}"], folder, environment(PATH=f"{folder}:/usr/bin:/bin")))
    cpus = os.sched_getaffinity(0)
    for job, launcher in zip(jobs, ("mpirun", "horovodrun"), strict=True):
        outcome = finish(job, PATIENCE)
        assert outcome.code == 0, outcome.output
        assert "on 2 ranks, 1 host, 1 CPU thread per rank" in outcome.output
        found = np.load(folder / f"{launcher}.npy")
        assert found.shape == (97, 2)
        assert np.unique(found, axis=0).tolist() == [[min(cpus), max(cpus)]]


@pytest.mark.parametrize(
    ("launcher", "name", "variables"),
    [
        ("pbs", "qsub", {"PBS_JOBID": "7.head", "PBS_NODEFILE": "{folder}/nodes"}),
        ("lsf", "bsub", {"LSB_JOBID": "7", "LSB_DJOB_HOSTFILE": "{folder}/nodes"}),
    ],
)
def test_scripts_of_pbs_and_lsf_run_with_their_variables(
    launcher: str, name: str, variables: dict[str, str], folder: Path
) -> None:
    """Neither can be had here: what stands for it starts the script as they document, elsewhere than at home."""
    (folder / "nodes").write_text("localhost\nlocalhost\n")
    named = " ".join(f"{key}={value.format(folder=folder)}" for key, value in variables.items())
    program(folder, name, SCHEDULER.format(variables=named).replace("exec", "cd /\nexec"))
    outcome = submit_here(folder, launcher, "--ranks-per-node", "2")
    assert outcome.code == 0, outcome.output
    assert "on 2 ranks, 1 host, 1 CPU thread per rank" in outcome.output
    assert np.load(folder / "p q.npy").shape == (97, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--launcher", "slurm", "--batch-size", "0"], "--batch-size must be"),
        (["--launcher", "slurm", "--color", "red"], "unrecognized arguments: --color red"),
        (["--launcher", "sge"], "invalid choice: 'sge'"),
        ([], "--launcher"),
        (["--launcher", "slurm", "--time", "90"], "--time '90' must be H:MM:SS"),
        (["--launcher", "slurm", "--time", "0:00:59"], "a minute at least"),
        (["--launcher", "slurm", "--nodes", "0"], "--nodes must be"),
        (["--launcher", "slurm", "--partition", "a b"], "--partition 'a b' must be a name"),
        (["--launcher", "slurm", "--directive=a\nb"], "--directive must be one line"),
        (["--launcher", "slurm", "--memory", "64"], "--memory '64' must be like"),
        (["--launcher", "slurm", "--hostfile", "h"], "--hostfile is for mpirun and horovodrun"),
        (["--launcher", "slurm", "--gpus", "--device", "cpu"], "--gpus and --device cpu"),
        (["--launcher", "slurm", "--device", "cuda"], "without GPUs in the job"),
        (["--launcher", "pbs", "--requeue"], "--requeue is for slurm"),
        (["--launcher", "lsf", "--memory", "4G"], "rusage[mem=4GB]"),
        (["--launcher", "pbs"], "qsub is not on PATH"),
        (["--launcher", "mpirun", "--nodes", "2"], "--nodes is for slurm, pbs and lsf"),
        (["--launcher", "mpirun", "--hostfile", "nowhere"], "--hostfile nowhere: No such file"),
        (["--launcher", "mpirun", "--hostfile", "hosts"], "'node1' is not HOST slots=N"),
        (["--launcher", "mpirun", "--hostfile", "hosts", "--ranks-per-node", "2"], "leave --ranks-per-node out"),
    ],
)
def test_what_is_wrong_is_not_submitted(
    options: list[str],
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program(folder, "sbatch", "#!/bin/sh\ntouch submitted\n")
    (folder / "hosts").write_text("node1\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert main(["submit", *options, *PREDICT]) == 64
    assert message in capsys.readouterr().err
    assert not (folder / "submitted").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--data", "nosuch.npy", "--data nosuch.npy: no such file or folder here"),
        ("--data", "part-*.npy::x", "--data part-*.npy: no such file or folder here"),
        ("--data", "**/part-*.npy", "--data **/part-*.npy: no such file or folder here"),
        ("--weights", "nosuch.pt", "--weights nosuch.pt: no such file or folder here"),
        ("--model", "models/nosuch", "--model models/nosuch: no such file or folder here"),
        ("--output", "nodir/p.npy", "--output nodir/p.npy: there is no folder nodir"),
    ],
)
def test_files_are_there_before_a_job_waits_in_the_queue(
    option: str,
    value: str,
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    program(folder, "sbatch", "#!/bin/bash\ntouch submitted\n")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    job = ["--launcher", "slurm", "--model", "zoo:mlp", "--data", DATA, "--output", "p.npy"]
    assert main(["submit", *job, option, value]) == 64  # the last one counts
    assert said in capsys.readouterr().err
    assert main(["submit", "--print", *job, option, value]) == 0
    assert f"runner: warning: {said}" in capsys.readouterr().err
    assert not Path("submitted").exists()
    assert main(["submit", *job]) == 0
    assert Path("submitted").exists()


def test_a_scheduler_that_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(folder, "sbatch", '#!/bin/sh\ncat >script\necho "sbatch: error: no such partition" >&2\nexit 3\n')
    outcome = submit_here(folder, "slurm")
    assert outcome.code == 64
    assert "error: no such partition\nrunner: error: sbatch refused the job (exit code 3)" in outcome.output
    assert (folder / "script").read_text().startswith("#!/usr/bin/env bash\n#SBATCH ")
