"""Ranks of one host in containers of their own, as far as namespaces make them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from launch import MPIRUN, environment, predict_command, run

from runner.host.isolation import isolated_ranks

RANK = {"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "PMIX_NAMESPACE": f"test-{os.getpid()}"}
OWN_PROCESSES = ["unshare", "--pid", "--fork", "--mount-proc"]
OWN_MEMORY = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"]
SAYS = "import runner.host.isolation; print(runner.host.isolation.isolated_ranks())"


@contextlib.contextmanager
def other_rank(*before: str) -> Iterator[None]:
    """Something with the variables of the other rank, for as long as the `with` block."""
    env = {**os.environ, **RANK, "OMPI_COMM_WORLD_RANK": "1"}
    command = [*before, sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        if process.stdout.readline() != b"\n":
            pytest.skip("needs leave to make namespaces and mounts")
        yield
        process.communicate()


def test_what_ranks_of_a_host_share() -> None:
    with other_rank():
        assert isolated_ranks(RANK) == ""
    with other_rank(*OWN_MEMORY):
        assert isolated_ranks(RANK).startswith("rank 0 has another /dev/shm than others on its host, as in containers")
        for transports, may_crash in (("self,tcp", False), ("^sm", False), ("^tcp", True), ("self,sm,tcp", True)):
            assert bool(isolated_ranks({**RANK, "OMPI_MCA_btl": transports})) == may_crash, transports
        assert isolated_ranks({**RANK, "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}) == ""
        assert isolated_ranks({}) == ""
    with other_rank(*OWN_PROCESSES):
        command = [*OWN_PROCESSES, sys.executable, "-c", SAYS]
        said = subprocess.run(command, env={**os.environ, **RANK}, capture_output=True, text=True, check=True).stdout
    assert said.startswith("rank 0 sees no process of the other 1 on its host, as in containers of their own. Open MPI")


@pytest.mark.launch
@pytest.mark.cold
def test_the_advice_helps(tmp_path: Path) -> None:
    if subprocess.run([*OWN_PROCESSES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs leave to make namespaces")
    np.save(tmp_path / "d.npy", np.zeros((9, 3), "f4"))
    launcher = [*MPIRUN, "2", "--mca", "btl", "self,tcp", *OWN_PROCESSES]
    options = ("--model", "zoo:Identity", "--data", "d.npy", "--output", "p.npy", "--comm", "mpi")
    outcome = run(predict_command(*options, launcher=launcher), tmp_path, env=environment())
    assert outcome.code == 0, outcome.output
    assert "warning" not in outcome.output
