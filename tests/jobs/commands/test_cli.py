"""The command line: help, TOML, exit codes, and how little it costs to import."""

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from launch import BIN, environment, mpirun, predict_command, predict_here, run
from reference import random_rows

from runner.config.options import Config, make_config
from runner.core.errors import UsageError


def test_help_tells_every_option_and_exit_code(tmp_path: Path) -> None:
    outcome = run([sys.executable, "-m", "runner", "predict", "--help"], tmp_path)
    assert outcome.code == 0
    for field in dataclasses.fields(Config):
        assert f"--{field.name.replace('_', '-')}" in outcome.output
    for code in (0, 64, 65, 70, 73, 75):
        assert f"\n  {code} " in outcome.output


def test_console_script_is_the_same_command(tmp_path: Path) -> None:
    by_module = run([sys.executable, "-m", "runner", "predict", "--help"], tmp_path)
    by_script = run([BIN / "hvd-runner", "predict", "--help"], tmp_path)
    assert by_script == by_module


def test_console_script_finds_modules_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text("import torch\ndef build():\n    return torch.nn.Identity()\n")
    np.save(tmp_path / "d.npy", random_rows(3, 2))
    command = [BIN / "hvd-runner", "predict", "--model", "my_model:build", "--data", "d.npy", "--output", "p.npy"]
    outcome = run(command, tmp_path)
    assert outcome.code == 0, outcome.output
    assert (tmp_path / "p.npy").read_bytes() == (tmp_path / "d.npy").read_bytes()


@pytest.mark.parametrize(
    "code", ["import runner", "import runner.cli.main", "from runner.cli.arguments import make_parser as p; p()"]
)
def test_imports_nothing_heavy(code: str) -> None:
    loaded = f"{code}; import sys; print([n for n in ('torch', 'numpy', 'mpi4py', 'horovod') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_job_imports_no_library_that_it_has_no_use_for(tmp_path: Path) -> None:
    """What every rank of every job would wait for: torch's compiler alone takes half of a start."""
    np.save(tmp_path / "d.npy", random_rows(3, 8))
    heavy = ("torch._dynamo", "torch._inductor", "torch.onnx", "torch.distributed.tensor", "sympy", "transformers")
    heavy += ("sentence_transformers", "timm", "onnxruntime", "pandas", "pyarrow.dataset", "PIL", "tokenizers", "peft")
    job = "import runner; runner.predict(model='zoo:mlp', data='d.npy', output='p.npy', threads=1)"
    code = f"{job}; import sys; print([name for name in {heavy} if name in sys.modules])"
    outcome = run([sys.executable, "-c", code], tmp_path)
    assert outcome.code == 0, outcome.output
    assert outcome.output.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [[], ["predictt"], ["predict", "--overwrite=yes"]])
def test_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    outcome = run([sys.executable, "-m", "runner", *arguments], tmp_path)
    assert outcome.code == 64
    assert outcome.output.startswith("runner: error: ")
    assert outcome.output.count("\n") == 1


def test_toml_and_command_line_give_one_configuration(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(97, 8))
    (tmp_path / "job.toml").write_text(
        'model = "zoo:mlp"\ndata = "d.npy"\noutput = "p.npy"\nbatch-size = 16\n[model-args]\nwidth = 3\n'
    )
    outcome = predict_here("--config", "job.toml", "--batch-size", "8", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    with (tmp_path / "p.npy.run/config.toml").open("rb") as file:
        resolved = tomllib.load(file)
    assert resolved["batch-size"] == 8
    assert resolved["model-args"] == {"width": 3}

    first = (tmp_path / "p.npy").read_bytes()  # what a run has kept is a configuration that can be run again
    outcome = predict_here("--config", "p.npy.run/config.toml", "--overwrite", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert (tmp_path / "p.npy").read_bytes() == first


def test_options_of_python_are_checked() -> None:
    good = {"model": len, "data": [1.0]}
    assert make_config({**good, "output": Path("p.npy")}).output == "p.npy"
    for wrong in ({"batch_size": 2.5}, {"model": 3}, {"threads": 0}, {"weights": 3}, {"color": "red"}, {"fresh": 1}):
        with pytest.raises(UsageError):
            make_config({**good, **wrong})


@pytest.mark.parametrize(
    ("size", "rank", "message"),
    [
        # as under srun without PMIx: each process is alone in an MPI world of its own
        ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun started 4 ranks, but MPI sees 1"),
        ("PMI_SIZE", "PMI_RANK", "mpiexec started 4 ranks, but MPI sees 1"),
        ("HOROVOD_SIZE", "HOROVOD_RANK", "horovodrun --mpi"),
    ],
)
def test_a_world_that_is_not_the_launchers_is_refused(size: str, rank: str, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(97, 8))
    command = predict_command("--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy")
    outcome = run(command, tmp_path, env=environment(**{size: "4", rank: "0"}))
    assert outcome.code == 64
    assert message in outcome.output
    outcome = run(command, tmp_path, env=environment(**{size: "4", rank: "1"}))
    assert (outcome.code, outcome.output) == (64, "")  # the other ranks leave the word to rank 0
    assert not (tmp_path / "p.npy").exists()


def test_another_controller_of_horovod_is_refused(tmp_path: Path) -> None:
    """A build without it would crash."""
    np.save(tmp_path / "d.npy", random_rows(97, 8))
    command = predict_command("--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy")
    outcome = run([*mpirun(2), "-x", "HOROVOD_CONTROLLER=gloo", *command], tmp_path)
    assert outcome.code == 64, outcome.output
    assert outcome.output.count("runner: error: HOROVOD_CONTROLLER=gloo: the runner needs Horovod over MPI; unset") == 1


@pytest.mark.cold
def test_missing_horovod_names_the_command(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(97, 8))
    (tmp_path / "horovod").mkdir()  # hides the installed one, as if it were not there
    (tmp_path / "horovod/__init__.py").write_text("raise ImportError('No module named horovod')\n")
    command = predict_command("--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy")
    assert run(command, tmp_path).code == 0  # without a launcher it is not needed
    outcome = run([*mpirun(2), *command, "--overwrite"], tmp_path)
    assert outcome.code == 64, outcome.output
    assert "scripts/setup.sh builds Horovod 0.28.1" in outcome.output
    assert outcome.output.count("runner: error") == 1


def test_passwords_are_not_recorded() -> None:
    for data, recorded in (
        ("postgresql://me:s3cr3t@host/db::t", "postgresql://me:***@host/db::t"),
        ("postgresql://host/db?user=me&password=s3cr3t::t", "postgresql://host/db?user=me&password=***"),
        ("d.tar::jpg@224x224", "d.tar::jpg@224x224"),
    ):
        assert make_config({"model": "a:b", "data": data}).resolved()["data"].startswith(recorded)
        assert "s3cr3t" not in str(make_config({"model": "a:b", "data": data}).resolved())
