"""Three hosts that all have a second interface with one and the same address, as Docker and libvirt leave them."""

import pytest


@pytest.mark.parametrize(
    "launcher",
    [
        ["mpirun", "--bind-to", "none", "--mca", "btl_tcp_if_include", "10.231.0.0/24"],
        ["horovodrun"],  # which tries by itself which interfaces reach all hosts
        ["horovodrun", "--network-interface", "eth0"],
    ],
    ids=["mpirun", "horovodrun", "horovodrun-eth0"],
)
def test_an_address_that_all_hosts_have(own_hosts, job, tmp_path, launcher):
    for host in ("head", "node1", "node2", "node3"):
        for words in ("link add docker0 type bridge", "address add 172.17.0.1/16 dev docker0", "link set docker0 up"):
            code, said = own_hosts.run(host, "ip", *words.split())
            assert code == 0, said
    output, hostfile = tmp_path / "predictions.npy", tmp_path / "hostfile"
    hostfile.write_text("node1 slots=1\nnode2 slots=2\nnode3 slots=1\n")
    code, said = own_hosts.run("head", *launcher, "-np", 4, "--hostfile", hostfile, *job.command(output))
    assert code == 0, said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == ["node1", "node2", "node2", "node3"]
