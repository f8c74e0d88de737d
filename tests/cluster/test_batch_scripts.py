"""The scripts of scripts/batch on a real Slurm of two nodes with two pretend GPUs each."""

import io
import json

import numpy as np
import pytest
from batch import PATIENT, SCRIPTS, await_end, await_that, show, start, submit

# Python imports it at its start: where the runner asks the driver, this answers by what Slurm has set
DRIVER = """
import os
import socket
import sys
from types import SimpleNamespace

if "predict" in sys.orig_argv:
    import torch

    VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")

    def properties(device):
        return SimpleNamespace(name="pretend GPU", uuid=f"{VISIBLE[device.index]} of {socket.gethostname()}")

    torch.cuda.device_count = lambda: len(VISIBLE)
    torch.cuda.set_device = lambda device: None
    torch.cuda.get_device_properties = properties
"""

# No nn.Module, so its batches stay on the CPU. It notes which GPU the runner has chosen for its rank.
MODEL = """
import os
import socket
from pathlib import Path

import tiny_model

def build(device):
    visible = os.environ["CUDA_VISIBLE_DEVICES"]
    note = f"{socket.gethostname()} sees {visible} takes {visible.split(',')[device.index]}"
    Path(__file__).with_name(f"rank-{socket.gethostname()}-{os.getpid()}").write_text(note)
    model = tiny_model.build()
    return lambda rows: model(rows)
"""


@pytest.mark.parametrize(
    ("script", "options", "visible"),
    [
        ("slurm-gpu", [], "0,1 0,1"),
        ("slurm-gpu", ["--gpus-per-task=1"], "0 1"),
        ("slurm-mpirun", ["--gpus-per-node=2"], "0,1 0,1"),
        ("slurm-horovodrun", ["--gpus-per-node=2"], "0,1 0,1"),
    ],
)
def test_each_rank_of_a_node_takes_a_gpu_of_its_own(slurm, job, tmp_path, script, options, visible):
    (tmp_path / "sitecustomize.py").write_text(DRIVER)
    (tmp_path / "pretend.py").write_text(MODEL)
    output = tmp_path / "predictions.npy"
    arguments = [*job.arguments(output), "--model", "pretend:build"]
    if script != "slurm-gpu":  # which does it by itself
        arguments += ["--device", "cuda"]
    path = f"{tmp_path}:{job.folder}"
    state, code, said = submit(slurm, tmp_path, *options, SCRIPTS / f"{script}.sbatch", *arguments, PYTHONPATH=path)
    assert (state, code) == ("COMPLETED", "0:0"), said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == ["node1", "node1", "node2", "node2"]
    seen = zip(visible.split() * 2, ["node1", "node1", "node2", "node2"], "0101", strict=True)
    wanted = [f"{host} sees {devices} takes {device}" for devices, host, device in seen]
    assert sorted(path.read_text() for path in tmp_path.glob("rank-*")) == wanted


def test_an_array_gives_each_data_set_an_output_of_its_own(slurm, job, tmp_path):
    rows, expected = np.load(job.folder / "rows.npy"), np.load(io.BytesIO(job.expected))
    parts = {"x/a": slice(0, 96), "x/b c": slice(96, 160), "y/a": slice(160, None)}  # cut where batches end
    for name, part in parts.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"data/{name}.npy", rows[part])
    (tmp_path / "datasets.list").write_text("".join(f"./data/{name}.npy\n" for name in parts))
    sizes = job.arguments(tmp_path)[6:]
    where = [f"--chdir={tmp_path}", "--array=1-4", SCRIPTS / "slurm-array.sbatch", "datasets.list"]
    model = ["--model", "tiny_model:build"]
    job_id = start(slurm, tmp_path / "%a.log", *where, *model, *sizes, PYTHONPATH=str(job.folder))
    await_end(slurm, job_id, tmp_path / "1.log")
    tasks = sorted(show(slurm, job_id), key=lambda task: int(task["ArrayTaskId"]))
    logs = [(tmp_path / f"{number}.log").read_text() for number in (1, 2, 3, 4)]
    assert [task["ExitCode"] for task in tasks] == ["0:0", "0:0", "0:0", "64:0"], logs
    for name, part in parts.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"predictions/data/{name}.npy"), expected[part], strict=True)
    assert logs[3] == "slurm-array: datasets.list has no line 4; submit with --array=1-3\n"


def test_a_script_passes_usr1_on_to_its_ranks(slurm, job, tmp_path):
    """As `--signal` sends it, to the process of the script: the ranks stop in time. Three jobs at the same time."""
    (tmp_path / "patient.py").write_text(PATIENT)
    jobs = {}
    for name in ("slurm", "slurm-mpirun", "slurm-horovodrun"):
        folder = tmp_path / name
        folder.mkdir()
        arguments = [*job.arguments(folder / "predictions.npy"), "--model", "patient:Patient"]
        arguments += ["--model-args", json.dumps({"folder": str(folder)})]
        path = f"{tmp_path}:{job.folder}"
        jobs[name] = start(slurm, folder / "job.log", SCRIPTS / f"{name}.sbatch", *arguments, PYTHONPATH=path)
    for name, job_id in jobs.items():
        log = tmp_path / name / "job.log"
        await_that(slurm, job_id, (tmp_path / name / "computing").exists, log)
        code, said = slurm.run("head", "scancel", "--batch", "--signal=USR1", job_id)
        assert code == 0, said
        (tmp_path / name / "told").touch()
    for name, job_id in jobs.items():
        state, code, said = await_end(slurm, job_id, tmp_path / name / "job.log")
        assert (state, code) == ("FAILED", "75:0"), said
        assert "stopped by a signal" in said
