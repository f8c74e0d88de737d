"""Ranks under srun that have namespaces of their own, as containers give them."""

import shlex
import sys

SAYS = "import runner.host.isolation as i, time; print(i.isolated_ranks()); time.sleep(1)"
RANKS = {
    "plain": ['"$@"', ""],
    "own processes": [
        'unshare --pid --fork --mount-proc "$@"',
        "rank 0 sees no process of the other 2 on its host, as",
    ],
    "own memory": [
        """unshare --mount sh -c 'mount -t tmpfs tmpfs /dev/shm && "$@"; true' sh "$@" """,
        "rank 0 has another /dev/shm than others on its host, as in containers of their own",
    ],
}


def test_ranks_of_a_host_in_containers_of_their_own(slurm):
    """One srun of three ranks and one: each way in turn, and the rank that is alone on its host."""
    ways = "; ".join(f"set -- {shlex.join([sys.executable, '-c', SAYS])}; {way}" for way, _ in RANKS.values())
    code, said = slurm.run(
        "head", "srun", "--mpi=pmix", "--label", "-N2", "-n4", "--distribution=plane=3", "sh", "-c", ways
    )
    assert code == 0, said
    for rank, expected in (("0", [message for _, message in RANKS.values()]), ("3", ["", "", ""])):
        lines = [line.partition(": ")[2] for line in said.splitlines() if line.startswith(f"{rank}:")]
        assert len(lines) == len(expected), said
        assert all(
            line.startswith(message) and bool(line) == bool(message)
            for line, message in zip(lines, expected, strict=True)
        ), said
    assert "OMPI_MCA_btl=self,tcp" in said
