"""The command under mpirun and horovodrun: on two hosts reached by ssh, and on this one."""

import socket
from pathlib import Path

import pytest

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
