"""The command under mpirun and horovodrun: on two hosts reached by ssh, and on this one."""

import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import split
import torch
from launch import HELPERS
from reference import random_rows

# with mpirun's own binding of a rank to one core, under which a plain hvd.init() between hosts does not end
MPIRUN = ["mpirun"]
HOSTFILES = Path(__file__).parents[2] / "hostfiles"


@pytest.mark.parametrize(
    ("launcher", "hostfile", "ranks"),
    [
        (MPIRUN, "two-hosts", ["node1", "node1", "node2", "node2"]),
        (["mpirun", "--bind-to", "none"], "unequal-slots", ["node1", "node1", "node1", "node2"]),
        (["horovodrun"], "unequal-slots", ["node1", "node1", "node1", "node2"]),
    ],
)
def test_two_hosts_give_the_bytes_of_one_process(hosts, job, tmp_path, launcher, hostfile, ranks):
    output = tmp_path / "predictions.npy"
    where = ["--hostfile", HOSTFILES / hostfile]
    code, said = hosts.run("head", *launcher, "-np", 4, *where, *job.command(output))
    assert code == 0, said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == ranks


@pytest.mark.parametrize("launcher", [MPIRUN, ["horovodrun"]], ids=["mpirun", "horovodrun"])
def test_one_hostfile_serves_both_launchers(job, tmp_path, launcher):
    output = tmp_path / "predictions.npy"
    code, said = job.run(*launcher, "-np", 2, "--hostfile", HOSTFILES / "localhost", *job.command(output))
    assert code == 0, said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == [socket.gethostname()] * 2


@pytest.mark.parametrize("comm", ["horovod", "mpi"])
def test_two_hosts_and_whoever_is_free_with_weights_once_a_host(hosts, job, tmp_path, comm):
    """One-sided operations and all-to-all between hosts, and a broadcast to one rank of each."""
    output = tmp_path / "predictions.npy"
    way = ["--comm", comm, "--schedule", "dynamic", "--collect", "alltoall", "--share-weights"]
    code, said = hosts.run("head", *MPIRUN, "-np", 4, "--host", "node1:2,node2:2", *job.command(output), *way)
    assert code == 0, said
    assert output.read_bytes() == job.expected


def test_jobs_of_two_hosts_want_one_output(hosts, job, tmp_path):
    output = tmp_path / "predictions.npy"
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda host: hosts.run(host, *job.command(output)), ("node1", "node2")))
    (won, _), (lost, said) = sorted(ended)
    assert (won, lost) == (0, 73), ended
    assert "is being written by another job: process " in said or "exists already" in said
    assert output.read_bytes() == job.expected


def test_hosts_that_might_overwrite_one_another_may_not_write_directly(hosts, job, tmp_path):
    output = tmp_path / "predictions.npy"
    direct = [*job.command(output), "--collect", "direct"]
    code, said = hosts.run("head", *MPIRUN, "-np", 4, "--host", "node1:2,node2:2", *direct)
    assert code == 64, said
    assert said.count("runner: error: --collect direct: the ranks are on several hosts, and ") == 1
    assert not output.exists()


def test_a_model_that_two_hosts_hold_together(hosts, job, tmp_path):
    """Each layer split over both hosts, which is warned of; and a stage on each, split over its two ranks."""
    for name in ("split.py", "zoo.py"):
        shutil.copy(HELPERS / name, job.folder)
    rows = random_rows(50, split.WIDTH)
    np.save(job.folder / "wide.npy", rows)
    stages = ["--model", "split:Chain", "--pipeline-stages", 2, "--parallel-plan", "split:plan_of_ends"]
    stages += ["--split-points", "narrow"]  # which is split itself
    apart = "layers are split over several hosts in 1 of 1 set of 2 ranks, such as ranks 0 to 1 on node1 and node2"
    for model, slots, options, warns in (
        (split.Stack(), 1, ["--model", "split:Stack", "--parallel-plan", "split:plan"], True),
        (split.Chain(), 2, stages, False),
    ):
        output = tmp_path / f"{slots}.npy"
        predict = [*job.python(), "-m", "runner", "predict", *options, "--data", "wide.npy", "--output", output]
        predict += ["--batch-size", 4, "--model-parallel", 2 * slots, "--threads", 1]
        code, said = hosts.run("head", *MPIRUN, "-np", 2 * slots, "--host", f"node1:{slots},node2:{slots}", *predict)
        assert code == 0, said
        assert (apart in said) == warns, said
        with torch.inference_mode():
            expected = model.eval()(torch.from_numpy(rows))
        found = np.load(output)
        for name, tensor in expected.items() if isinstance(expected, dict) else [(..., expected)]:
            assert np.allclose(found[name], tensor.numpy(), atol=1e-5)
        assert job.hosts(output) == ["node1"] * slots + ["node2"] * slots
