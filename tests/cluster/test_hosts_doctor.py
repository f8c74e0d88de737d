"""`python -m runner doctor` on several hosts, and the faults that only those can have, planted one at a time."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch import PROGRAMS

DOCTOR = [PROGRAMS / "impatient.py", "doctor", "--comm", "mpi"]
ONE_EACH = ["mpirun", "-np", 2, "--host", "node1:1,node2:1"]


def doctor(hosts, tmp_path: Path, *options: object) -> tuple[int, str, dict[str, dict[str, object]]]:
    """One rank on each of two hosts: exit code, output, the findings by check."""
    path = tmp_path / "found.json"
    code, said = hosts.run("head", *ONE_EACH, *hosts.job.python(), *DOCTOR, "--json", path, *options)
    assert path.exists(), said
    return code, said, {finding["check"]: finding for finding in json.loads(path.read_text())["findings"]}


@pytest.fixture
def on_each(hosts) -> Iterator[object]:
    """Run a command on both hosts, and another one at the end of the test."""
    afterwards = []

    def run(*command: str, undo: tuple[str, ...]) -> None:
        for host in ("node1", "node2"):
            code, said = hosts.run(host, *command)
            assert code == 0, said
            afterwards.append((host, undo))

    yield run
    for host, undo in afterwards:
        hosts.run(host, *undo)


def test_two_healthy_hosts(hosts, tmp_path):
    code, said, found = doctor(hosts, tmp_path, "--folder", tmp_path)
    assert code == 0, said
    assert found["ranks"]["message"] == "2 ranks on 2 hosts: 1 on node1, 1 on node2"
    assert "written, read and renamed between all hosts" in found["storage"]["message"]
    assert found["network"]["verdict"] == found["rates"]["verdict"] == "ok", said
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_folder_that_the_hosts_do_not_share(hosts, tmp_path):
    code, said, found = doctor(hosts, tmp_path, "--folder", "/dev/shm")
    assert code == 73, said
    assert found["storage"]["verdict"] == "WRONG"
    message = "/dev/shm is not shared by all hosts: node2 did not see within 5 s what node1 had written there"
    assert found["storage"]["message"] == message


def test_an_address_that_both_hosts_have(hosts, job, tmp_path, on_each):
    """MPI tries to reach the other host by it, and fails or waits for ever: doctor and job each come to an end."""
    on_each("ip", "link", "add", "docker0", "type", "bridge", undo=("ip", "link", "delete", "docker0"))
    on_each("ip", "address", "add", "172.17.0.1/16", "dev", "docker0", undo=("true",))
    on_each("ip", "link", "set", "docker0", "up", undo=("true",))
    soon = ["--stall-timeout", 15]
    for command in ([*job.python(), *DOCTOR], job.command(tmp_path / "p.npy")):
        code, said = hosts.run("head", *ONE_EACH, *command, *soon)
        assert code != 0, said
        failed, hung = "connect() to 172.17.0.1", "Addresses of this host: eth0 10.231.0.11, docker0 172.17.0.1. "
        assert failed in said or hung in said, said
        assert ("docker0 172.17.0.1: a bridge inside this host" in said) == ("doctor" in command), said
    code, said = hosts.run(
        "head", *ONE_EACH, "--mca", "btl_tcp_if_include", "eth0", *job.python(), *DOCTOR, "--folder", tmp_path
    )
    assert code == 0, said
    assert "warning network   node1, node2 all have the address docker0 172.17.0.1" in said


def test_hosts_of_one_name(hosts, tmp_path, on_each):
    """MPI takes them for one; how it fails differs from launch to launch."""
    on_each("hostname", "localhost", undo=("true",))
    try:
        code, said = hosts.run("head", *ONE_EACH, *hosts.job.python(), *DOCTOR, "--stall-timeout", 10)
    finally:
        for host in ("node1", "node2"):
            hosts.run(host, "hostname", host)
    assert code != 0, said
    assert "warning ranks     this host is called localhost. If other hosts of the job are, too, MPI takes" in said
    failed, hung = "This one is called localhost", "or hosts of one name (localhost), as copies of one machine have"
    assert failed in " ".join(said.split()) or hung in said, said
    assert "Traceback" not in said


def test_shared_memory_that_is_too_little_for_mpi(hosts, tmp_path, on_each):
    on_each("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", "/dev/shm", undo=("umount", "/dev/shm"))
    path = tmp_path / "found.json"
    two_each = ["mpirun", "-np", 4, "--host", "node1:2,node2:2"]
    code, said = hosts.run("head", *two_each, *hosts.job.python(), *DOCTOR, "--json", path, "--folder", tmp_path)
    assert code == 0, said
    findings = [found for found in json.loads(path.read_text())["findings"] if found["check"] == "network"]
    for host, finding in zip(("node1", "node2"), findings, strict=True):
        assert re.match(rf"{host}: /dev/shm has (4|3\.9\d?) MiB per rank free", finding["message"])


def test_worlds_of_one(slurm, tmp_path):
    """Open MPI 5 under --mpi=none starts as many jobs of one rank."""
    path = tmp_path / "found.json"
    ranks = ["srun", "-K1", "--mpi=none", "--nodes=2", "--ntasks-per-node=1"]
    code, said = slurm.run("head", *ranks, *slurm.job.python(), *DOCTOR, "--json", path, "--folder", tmp_path)
    assert code == 64, said
    finding = json.loads(path.read_text())["findings"][0]
    assert finding["verdict"] == "WRONG"
    assert finding["message"].startswith("srun started 2 ranks, but MPI sees 1 ")
    assert "--mpi=pmix" in finding["message"]
    assert said.count("WRONG") == 1
