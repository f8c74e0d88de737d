"""`python -m runner doctor` finds faults that are planted; those of hosts are in cluster/test_hosts_doctor.py."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from launch import HELPERS, MPIRUN, Outcome, environment, python, run, run_here

import runner
from runner.commands.doctor.facts import Facts
from runner.commands.doctor.judge import judge
from runner.commands.doctor.measure import judge_speed

MPI = ["--comm", "mpi"]  # starts sooner
FOUR_FREE_CPUS = (0, 1, 2, 3)
COUNTS = """
from torch import nn

class Counts(nn.Module):
    calls = 0

    def forward(self, rows):
        self.calls += 1
        return rows + self.calls
"""


def doctor(folder: Path, *command: str | Path, **variables: str) -> tuple[Outcome, dict[str, dict[str, object]]]:
    """Run a command that ends in the doctor's; its findings by check, of two of one check the worse."""
    return with_findings(run([*command, "--json", "found.json"], folder, env=environment(**variables)), folder)


def doctor_command() -> list[str | Path]:
    return [*python(), "-m", "runner", "doctor"]


def doctor_here(folder: Path, *options: str | Path) -> tuple[Outcome, dict[str, dict[str, object]]]:
    """The same for one rank, in this process."""
    return with_findings(run_here("doctor", "--json", "found.json", *options, folder=folder), folder)


def with_findings(outcome: Outcome, folder: Path) -> tuple[Outcome, dict[str, dict[str, object]]]:
    path = folder / "found.json"
    found = json.loads(path.read_text())["findings"] if path.exists() else []
    return outcome, {finding["check"]: finding for finding in sorted(found, key=lambda f: f["verdict"] == "ok")[::-1]}


def test_a_healthy_job(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).random((50, 8), dtype=np.float32))
    model = ["--model", "zoo:mlp", "--data", "rows.npy", "--output", "out/p.npy"]
    (tmp_path / "out").mkdir()
    outcome, found = doctor(tmp_path, *MPIRUN, "2", *doctor_command(), *model)
    assert outcome.code == 0, outcome.output
    assert not [finding for finding in found.values() if finding["verdict"] == "WRONG"], outcome.output
    assert found["ranks"]["message"].startswith("2 ranks on 1 host: 2 on ")
    library = f"{Path(sys.prefix).resolve()}/lib/libmpi.so.40"
    assert found["MPI"]["message"].endswith(f"one library in each process ({library})")
    assert found["storage"]["message"].startswith(f"{tmp_path}/out (")
    assert found["rates"]["figures"]["broadcast_bytes_per_second"] > 0
    assert found["batch"]["message"].startswith("50 rows; model loaded in ")
    assert found["batch"]["message"].endswith("answers: equal")
    assert not list((tmp_path / "out").iterdir())
    assert outcome.output.count("\nok ") + outcome.output.count("\nwarning ") + 1 >= len(found)


def test_one_rank_alone(tmp_path: Path) -> None:
    outcome, found = doctor_here(tmp_path)
    assert outcome.code == 0, outcome.output
    assert "not used by one rank alone" in str(found["MPI"]["message"])
    assert "rates" not in found


def test_a_model_that_keeps_a_state_is_a_finding_and_no_warning_beside_it(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((50, 8), np.float32))
    (tmp_path / "state.py").write_text(COUNTS)
    outcome, found = doctor_here(tmp_path, "--model", "state:Counts", "--data", "rows.npy", "--stateful", "keep")
    assert outcome.code == 0, outcome.output
    assert found["batch"]["verdict"] == "warning"
    assert str(found["batch"]["message"]).endswith("answers: the model gives a different answer to row 0 at each call")
    assert "runner: warning" not in outcome.output
    outcome, found = doctor_here(tmp_path, "--model", "state:Counts", "--data", "rows.npy")
    assert (outcome.code, found["batch"]["verdict"]) == (65, "WRONG")


def test_data_without_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((0, 8), np.float32))
    outcome, found = doctor_here(tmp_path, "--model", "zoo:mlp", "--data", "rows.npy")
    assert outcome.code == 0, outcome.output
    assert found["batch"]["message"] == "model loaded; rows.npy has no rows"


def test_more_threads_than_cpus(tmp_path: Path) -> None:
    outcome, found = doctor(tmp_path, *doctor_command(), OMP_NUM_THREADS="640")
    assert outcome.code == 0, outcome.output
    assert found["CPUs"]["verdict"] == "warning"
    assert " with 640 threads together, on " in str(found["CPUs"]["message"])
    assert "OMP_NUM_THREADS" in str(found["CPUs"]["fix"])


def beside(*variables: str) -> list[str | Path]:
    """A job of two ranks, the second one of which has other variables."""
    rank = [*doctor_command(), *MPI]
    return [*MPIRUN, "1", *rank, "--json", "found.json", ":", "-np", "1", "env", *variables, *rank]


def test_ranks_on_one_cpu(tmp_path: Path) -> None:
    outcome, found = doctor(tmp_path, *MPIRUN, "2", "taskset", "--cpu-list", "0", *doctor_command(), *MPI)
    assert outcome.code == 0, outcome.output
    assert found["CPUs"]["verdict"] == "warning"
    assert " have 1 CPU between them" in str(found["CPUs"]["message"])


def test_a_rank_that_computes_slowly(tmp_path: Path) -> None:
    """Without the vector instructions of its processor."""
    outcome, found = doctor(tmp_path, *beside("MKL_CBWR=COMPATIBLE"))
    assert outcome.code == 0, outcome.output
    assert found["speed"]["verdict"] == "warning", outcome.output
    assert str(found["speed"]["message"]).startswith("rank 1 of 2 on ")
    assert str(found["speed"]["message"]).endswith("its processor is slower")


def test_ranks_that_are_slow() -> None:
    names, even = ["rank 0", "rank 1", "rank 2"], np.array([1.0, 1.1, 1.2])
    assert judge_speed(names, even, even) == ""
    assert (
        judge_speed(names, np.array([1, 3, 1.0]), even) == "rank 1: 3.0 times slower than most; its processor is slower"
    )
    busy = judge_speed(names, even, np.array([2, 2, 5.0]))
    assert busy == "rank 2: 2.5 times slower than most; other programs or ranks use its CPUs"
    assert judge_speed(names[:2], np.array([1, 2.0]), even[:2]).startswith("rank 1: 2.0 times")


def test_a_rank_with_another_checkout(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(Path(runner.__file__).parent, copy / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "runner/chunks/grid.py").open("a") as file:
        file.write("# of yesterday\n")
    outcome, found = doctor(tmp_path, *beside(f"PYTHONPATH={copy}"))
    assert outcome.code == 64, outcome.output
    assert str(found["software"]["message"]).startswith("not the same on all ranks: runner 0.")


def test_a_clock_that_is_wrong(tmp_path: Path) -> None:
    clock = tmp_path / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", clock, HELPERS / "clock.c", "-ldl"], check=True)
    outcome, found = doctor(tmp_path, *beside(f"LD_PRELOAD={clock}", "CLOCK_SHIFT=-90"))
    assert outcome.code == 0, outcome.output
    assert found["clocks"]["verdict"] == "warning"
    assert "rank 1 of 2 on " in str(found["clocks"]["message"])
    assert " by -90.0 s" in str(found["clocks"]["message"])


def test_two_mpi_libraries_in_one_process(tmp_path: Path) -> None:
    """As when Horovod was built with one and mpi4py with another."""
    library, other = Path(sys.prefix).resolve() / "lib", tmp_path / "libmpi.so.41"
    other.write_bytes((library / "libmpi.so.40").read_bytes().replace(b"libmpi.so.40\0", b"libmpi.so.41\0"))
    variables = ["-x", f"LD_PRELOAD={other}", "-x", f"LD_LIBRARY_PATH={library}/openmpi"]
    outcome, found = doctor(tmp_path, *MPIRUN, "2", *variables, *doctor_command(), *MPI)
    assert outcome.code == 64, outcome.output
    loaded = ", ".join(sorted([str(other), f"{library}/libmpi.so.40"]))
    assert f"has loaded several MPI libraries: {loaded}. " in str(found["MPI"]["message"])


@pytest.mark.cold  # with mounts of its own
@pytest.mark.parametrize(("options", "says"), [("size=16m", "No space left on device"), ("nr_inodes=50", "room for ")])
def test_a_full_file_system(tmp_path: Path, options: str, says: str) -> None:
    mount = f'mount -t tmpfs -o {options} tmpfs "$1" && shift && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", mount, "sh", "full"]
    (tmp_path / "full").mkdir()
    if subprocess.run([*inside, "true"], cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("a small file system wants leave to mount one")
    outcome, found = doctor(tmp_path, *inside, *doctor_command(), "--folder", "full")
    assert outcome.code == 73, outcome.output
    wrong = [finding for finding in found.values() if finding["verdict"] == "WRONG"]
    assert [says in str(finding["message"]) for finding in wrong] == [True]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, read_only: Path) -> None:
    outcome, found = doctor_here(tmp_path, "--folder", read_only)
    assert outcome.code == 73, outcome.output
    assert found["storage"]["verdict"] == "WRONG"
    assert f"{read_only} cannot be written to: " in str(found["storage"]["message"])


def test_a_rank_whose_model_is_wrong(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).random((50, 8), dtype=np.float32))
    wrong = ["--model", "zoo:Deviates", "--model-args", json.dumps({"rank": 1, "off": 1.0}), "--data", "rows.npy"]
    outcome, found = doctor(tmp_path, *MPIRUN, "2", *doctor_command(), *wrong, *MPI)
    assert outcome.code == 70, outcome.output
    assert "the ranks do not agree on row 0: rank 1 of 2 on " in str(found["batch"]["message"])


def test_a_rank_that_does_not_come_up(tmp_path: Path) -> None:
    """The others wait for it inside MPI, where nothing of theirs runs."""
    rank = [*doctor_command(), "--stall-timeout", "5"]
    outcome = run([*MPIRUN, "1", *rank, ":", "-np", "1", "sleep", "300"], tmp_path)
    assert outcome.code != 0
    assert outcome.output.count("runner: error") == 1, outcome.output
    assert "runner: error [rank 0 of 2 on " in outcome.output
    assert "the other ranks did not connect within 5 s (--stall-timeout)" in outcome.output


HEALTHY = Facts(
    who="rank 0 of 4 on a",
    host="a",
    software={"torch": "2.13.0"},
    mpi="Open MPI v5",
    mpi_files=("/lib/libmpi.so.40.40.7",),
    horovod_mpi="libmpi.so.40",
    cpus=FOUR_FREE_CPUS,
    cpu_quota=None,
    threads=2,
    gpus=("H200 GPU-1", "H200 GPU-2"),
    gpu="H200 GPU-1",
    addresses={"eth0": "10.0.0.1"},
    memory_bytes=8 << 30,
    memory_limit=None,
    shared_memory_bytes=1 << 30,
    locks_memory=True,
)
SECOND = dataclasses.replace(HEALTHY, who="rank 1 of 4 on a", gpu="H200 GPU-2")


def test_healthy_facts() -> None:
    assert {finding.verdict for finding in judge([HEALTHY, SECOND])} == {"ok"}


def test_all_differences_of_the_software_by_host() -> None:
    old = {"torch": "2.12.1", "numpy": "1.26.4"}
    ranks = [
        dataclasses.replace(HEALTHY, who=f"rank {rank} of 6 on {host}", host=host, software=software)
        for rank, (host, software) in enumerate(zip("abcdef", [{**old, "torch": "2.13.0"}, *[old] * 5], strict=True))
    ]
    (finding,) = (finding for finding in judge(ranks) if finding.check == "software")
    assert finding.message == "not the same on all ranks: torch 2.13.0 on a, 2.12.1 on b, c, d and 2 more"
    ranks[1] = dataclasses.replace(ranks[1], software={"torch": "2.12.1"})
    (finding,) = (finding for finding in judge(ranks) if finding.check == "software")
    assert finding.message.endswith("; numpy 1.26.4 on a, c, d and 2 more, none on b")
    ranks[1] = dataclasses.replace(ranks[1], host="a", software={"torch": "2.12.1", "numpy": "1.26.4"})
    (finding,) = (finding for finding in judge(ranks[:2]) if finding.check == "software")
    assert finding.message.endswith("torch 2.13.0 on rank 0 of 6 on a, 2.12.1 on rank 1 of 6 on b")


@pytest.mark.parametrize(
    ("check", "verdict", "says", "changes"),
    [
        ("GPUs", "WRONG", "rank 0 of 4 on a and rank 1 of 4 on a share H200 GPU-1", {"gpu": "H200 GPU-1"}),
        ("GPUs", "WRONG", "no GPU for rank 1 of 4 on a, while other ranks have one", {"gpu": ""}),
        ("MPI", "warning", "Horovod there was built with another MPI, libmpi.so.12", {"horovod_mpi": "libmpi.so.12"}),
        ("MPI", "WRONG", "MPICH 4 on rank 1 of 4 on a", {"mpi": "MPICH 4"}),
        (
            "CPUs",
            "warning",
            "2 ranks with 4 threads together, on 4 CPUs (its control group or Slurm allows 2",
            {"cpu_quota": 2.0},
        ),
        ("memory", "warning", "512 MiB free for each of 2 ranks on a", {"memory_bytes": 1 << 30}),
        ("network", "warning", "/dev/shm has 8 MiB per rank free", {"shared_memory_bytes": 16 << 20}),
        ("network", "warning", "memory may not be locked", {"locks_memory": False}),
        ("network", "warning", "a, b all have the address eth0 10.0.0.1", {"host": "b"}),
    ],
)
def test_facts_that_cannot_be_had_here(check: str, verdict: str, says: str, changes: dict[str, object]) -> None:
    found = judge([HEALTHY, dataclasses.replace(SECOND, **changes)])
    assert [f.check for f in found if f.verdict != "ok"] == [check]
    finding = next(f for f in found if f.check == check)
    assert finding.verdict == verdict
    assert says in finding.message
    assert finding.fix
