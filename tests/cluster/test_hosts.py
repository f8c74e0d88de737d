"""The command under mpirun and horovodrun: on two hosts reached by ssh, and on this one."""

import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import split
import torch
from reference import random_rows

# with mpirun's own binding of a rank to one core, under which a plain hvd.init() between hosts does not end
MPIRUN = ["mpirun"]
HOSTFILES = Path(__file__).parents[2] / "hostfiles"


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("launcher", "hostfile", "ranks"),
    [
        (MPIRUN, "two-hosts", ["node1", "node1", "node2", "node2"]),
        (["horovodrun"], "two-hosts", ["node1", "node1", "node2", "node2"]),
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


@pytest.mark.timeout(200)
@pytest.mark.parametrize("launcher", [MPIRUN, ["horovodrun"]], ids=["mpirun", "horovodrun"])
def test_one_hostfile_serves_both_launchers(job, tmp_path, launcher):
    output = tmp_path / "predictions.npy"
    code, said = job.run(*launcher, "-np", 2, "--hostfile", HOSTFILES / "localhost", *job.command(output))
    assert code == 0, said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == [socket.gethostname()] * 2


@pytest.mark.timeout(200)
@pytest.mark.parametrize("comm", ["horovod", "mpi"])
def test_two_hosts_and_whoever_is_free_with_weights_once_a_host(hosts, job, tmp_path, comm):
    """One-sided operations and all-to-all between hosts, and a broadcast to one rank of each."""
    output = tmp_path / "predictions.npy"
    way = ["--comm", comm, "--schedule", "dynamic", "--collect", "alltoall", "--share-weights"]
    code, said = hosts.run("head", *MPIRUN, "-np", 4, "--host", "node1:2,node2:2", *job.command(output), *way)
    assert code == 0, said
    assert output.read_bytes() == job.expected


@pytest.mark.timeout(100)
def test_hosts_that_might_overwrite_one_another_may_not_write_directly(hosts, job, tmp_path):
    output = tmp_path / "predictions.npy"
    direct = [*job.command(output), "--collect", "direct"]
    code, said = hosts.run("head", *MPIRUN, "-np", 4, "--host", "node1:2,node2:2", *direct)
    assert code == 64, said
    assert said.count("runner: error: --collect direct: the ranks are on several hosts, and ") == 1
    assert not output.exists()


@pytest.mark.timeout(200)
def test_a_model_that_two_hosts_hold_together(hosts, job, tmp_path):
    """And two groups of two ranks, each on a host of its own: there nothing is to be warned of."""
    shutil.copy(Path(__file__).parents[1] / "split.py", job.folder)
    rows = random_rows(50, split.WIDTH)
    np.save(job.folder / "wide.npy", rows)
    with torch.inference_mode():
        expected = split.Stack().eval()(torch.from_numpy(rows)).numpy()
    apart = "of 1 groups of --model-parallel 2, 1 are on several hosts, such as ranks 0 to 1 on node1 and node2"
    for slots, warns in ((1, True), (2, False)):
        output = tmp_path / f"{slots}.npy"
        predict = [sys.executable, "-m", "runner", "predict", "--model", "split:Stack", "--data", "wide.npy"]
        predict += ["--output", output, "--batch-size", 4, "--model-parallel", 2, "--parallel-plan", "split:plan"]
        where = ["-np", 2 * slots, "--host", f"node1:{slots},node2:{slots}"]
        code, said = hosts.run("head", *MPIRUN, *where, *predict, "--threads", 1)
        assert code == 0, said
        assert (apart in said) == warns, said
        assert np.allclose(np.load(output), expected, atol=1e-5)
        assert job.hosts(output) == ["node1"] * slots + ["node2"] * slots
