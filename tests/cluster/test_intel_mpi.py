"""Intel MPI between two hosts, through mpi4py alone: its wheel is unpacked into a folder of its own."""

import sys

import pytest
from launch import PROGRAMS
from wheels import unpack_wheel

INTEL_MPI = "impi-rt==2021.18.1"  # the last with libfabric inside


@pytest.fixture(scope="module")
def intel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intel")
    unpack_wheel(INTEL_MPI, folder)
    return folder


def test_pieces_of_unlike_sizes_between_hosts(hosts, intel):
    """Its Iallgatherv of those never ends."""
    env = {
        "PATH": f"{intel}/bin:{hosts.env['PATH']}",
        "LD_LIBRARY_PATH": f"{intel}/lib",
        "MPI4PY_LIBMPI": f"{intel}/lib/libmpi.so.12",
        "I_MPI_ROOT": f"{intel}/opt/mpi",
        "I_MPI_OFI_PROVIDER": "tcp",
    }
    launcher = ["mpiexec.hydra", "-bootstrap", "ssh", "-hosts", "node1,node2", "-ppn", 1, "-n", 2]
    command = [sys.executable, PROGRAMS / "collect.py", 1, "mpi", "allgather"]
    code, said = hosts.run("head", *launcher, *command, **env, timeout=100)
    assert code == 0, said
    assert "all 200 chunks arrived" in said
