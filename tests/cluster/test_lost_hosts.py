"""scripts/run_until_done.sh: a host that goes off, a cut network, a dead launcher; a stop, and when it gives up."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/run_until_done.sh"
HOSTFILE = "node1 slots=1\nnode2 slots=2\nnode3 slots=1\n"
SALLOC = ["salloc", "--quiet", "--no-kill", "--nodes=3", "--ntasks-per-node=1"]


@contextlib.contextmanager
def half_way(cluster, output: Path, *before: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The script on head, once it has committed a quarter of the chunks; ended by force with the block if need be.

    The rest takes it many seconds, as long as the file `slow(output)` is there.
    """
    slow(output).touch()
    process = start(cluster, output, *before)
    try:
        await_chunks(process, output, 7)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def start(cluster, output: Path, *before: str) -> "subprocess.Popen[bytes]":
    """Start it on head, with a command before it, or else with a hostfile."""
    where: list[object] = []
    if not before:
        hostfile = output.with_suffix(".hosts")
        hostfile.write_text(HOSTFILE)
        where = ["--hostfile", hostfile]
    model = ["--model-args", json.dumps({"flag": str(slow(output))})]
    arguments = map(str, [*cluster.job.arguments(output, model="Slow"), *model])
    with log_of(output).open("w") as log:
        return subprocess.Popen(
            cluster.on("head", *before, SCRIPT, *where, "--", *arguments),
            cwd=cluster.job.folder,
            env=cluster.env | {"RUNNER_VENV": cluster.job.venv()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def slow(output: Path) -> Path:
    """The file that makes its model slow."""
    return output.with_suffix(".slow")


def log_of(output: Path) -> Path:
    """What it writes goes to a file: what a dead mpirun leaves behind would hold a pipe open."""
    return output.with_suffix(".log")


def await_chunks(process: subprocess.Popen[bytes], output: Path, number: int, job: int = 1) -> None:
    """Return when the first, second, ... job on an output has committed so many chunks."""
    ledger = Path(f"{output}.run/ledger.jsonl")

    def are_there() -> bool:
        jobs = ledger.read_text().split('{"job": ')[1:] if ledger.exists() else []
        return len(jobs) >= job and jobs[job - 1].count('"chunk": ') >= number

    await_that(process, output, are_there)


def await_that(process: subprocess.Popen[bytes], output: Path, what: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 150
    while not what():
        assert process.poll() is None, log_of(output).read_text()
        assert time.monotonic() < give_up
        time.sleep(0.02)


def end(process: "subprocess.Popen[bytes]", output: Path, timeout: float) -> tuple[int, str]:
    """Exit code, and what it wrote."""
    try:
        return process.wait(timeout), log_of(output).read_text()
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still running after {timeout} s: {log_of(output).read_text()}") from None


def kill(hosts, host: str, name: str, words: str) -> None:
    """Send a signal to the process of a host whose command line begins so."""
    code, said = hosts.run(host, "pkill", f"--signal={name}", "--full", f"^{words}")
    assert code == 0, said


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("cluster", "fault", "lost", "left"),
    [
        # rank 0's host: cut off, it still reaches the output, and holds it for as long as it lives
        ("own_hosts", "power_off", "node1", ["node2", "node2", "node3"]),
        ("own_hosts", "cut_off", "node1", ["node2", "node2", "node3"]),
        ("own_slurm", "power_off", "node2", ["node1", "node3"]),
    ],
)
def test_a_lost_host_is_named_and_the_others_go_on(request, job, tmp_path, cluster, fault, lost, left):
    output, hosts = tmp_path / "predictions.npy", request.getfixturevalue(cluster)
    with half_way(hosts, output, *(SALLOC if cluster == "own_slurm" else [])) as process:
        getattr(hosts, fault)(lost)
        slow(output).unlink()
        code, said = end(process, output, timeout=250)
    assert code == 0, said
    assert said.count(f"run_until_done: {lost} is lost, ") == 1, said
    assert f"chunks done, on {' '.join(dict.fromkeys(left))}\n" in said
    assert output.read_bytes() == job.expected
    assert job.hosts(output) == left


@pytest.mark.cold  # the death of a launcher and its daemon, as its own ranks see it
@pytest.mark.timeout(400)
def test_a_dead_launcher_and_a_stop_on_purpose(own_hosts, job, tmp_path):
    output = tmp_path / "predictions.npy"
    with half_way(own_hosts, output) as process:
        slow(output).write_text("20")  # or on a busy machine all may be done before the next step
        kill(own_hosts, "node1", "STOP", "[^ ]*/prted ")  # which would end rank 0; then the next try must
        kill(own_hosts, "head", "KILL", "prterun ")  # Open MPI 5's mpirun
        await_that(process, output, lambda: "run_until_done: going on with " in log_of(output).read_text())
        slow(output).write_text("5")  # some 20 s for what is left, so that the stop comes before the end
        await_chunks(process, output, 1, job=2)
        kill(own_hosts, "head", "TERM", f"bash {SCRIPT}")
        code, said = end(process, output, timeout=150)
    slow(output).unlink()
    assert code == 75, said
    assert "run_until_done: mpirun has ended with 137, " in said
    assert "chunks done, on node1 node2 node3\n" in said
    assert "runner: stopped by a signal: " in said
    assert not output.exists()
    code, said = end(start(own_hosts, output), output, timeout=150)
    assert code == 0, said
    assert output.read_bytes() == job.expected


def test_it_gives_up_where_a_try_adds_nothing(job, tmp_path):
    (tmp_path / "hosts").write_text("localhost slots=2\n")
    arguments = job.arguments(tmp_path / "p.npy", model="ends_at_once")
    code, said = job.run("env", f"RUNNER_VENV={job.venv()}", SCRIPT, "--hostfile", tmp_path / "hosts", "--", *arguments)
    assert code not in (0, 75), said
    assert said.endswith("run_until_done: giving up: the last try has added nothing, and all its hosts are alive\n")
    assert said.count("run_until_done: mpirun has ended with ") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "p.npy"], "there is no -- before"),
        (["--", "--data", "d.npy"], "--output is missing"),
        (["--", "--output", "p.npy", "--fresh"], "--fresh would forget"),
        (["-np", "4", "--", "--output", "p.npy"], "-np: the slots"),
        (["--hostfile", "/nowhere", "--", "--output", "p.npy"], "--hostfile /nowhere names no hosts"),
        (["--", "--output", "p.npy"], "not inside an allocation"),
    ],
)
def test_what_it_refuses(job, arguments, message):
    variables = ("SLURM_JOB_NODELIST", "PBS_NODEFILE", "LSB_DJOB_HOSTFILE", "LSB_MCPU_HOSTS")
    outside = [word for name in variables for word in ("-u", name)]
    code, said = job.run("env", *outside, f"RUNNER_VENV={job.venv()}", SCRIPT, *arguments)
    assert code == 64, said
    assert message in said
