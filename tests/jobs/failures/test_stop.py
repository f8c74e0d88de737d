"""A job that is asked to stop, or runs out of time, keeps what is done, exits with 75, and goes on the next time."""

import contextlib
import json
import os
import pty
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zoo
from launch import (
    LAUNCHERS,
    PATIENCE,
    await_chunks,
    await_that,
    environment,
    finish,
    predict_command,
    recorded_chunks,
    run,
    start,
)
from reference import plain_loop, random_rows

NUM_ROWS, BATCH_SIZE = 1797, 32
# half a minute's work for two ranks as long as the file is there: no job ends before it is stopped
SLOWLY = json.dumps({"value": 1e9, "flag": "none", "seconds": 0.25, "slowly": "slowly"})
OPTIONS = ["--model", "zoo:DiesOnce", "--model-args", SLOWLY, "--data", "d.npy", "--output", "p.npy"]

LIMITS = (8, 16, 28)  # seconds, the first in which there is time to compute: a busy machine may take many to start
LATE = 3.0  # the runner means to be through 3 s before the end: on a busy machine that may take longer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = np.concatenate([random_rows(NUM_ROWS, 8)] * 4)
    np.save(tmp_path / "d.npy", rows)
    np.save(tmp_path / "expected.npy", plain_loop(zoo.mlp(), rows, BATCH_SIZE))
    (tmp_path / "slowly").touch()
    return tmp_path


def committed(folder: Path) -> list[int]:
    return recorded_chunks(folder / "p.npy.run")


def assert_stopped(folder: Path, output: str, why: str) -> None:
    report = json.loads((folder / "p.npy.run/report.json").read_text())
    assert (report["status"], report["stopped_by"]) == ("stopped", why)
    assert 0 < report["remaining_rows"] < 4 * NUM_ROWS
    assert report["computed_rows"] + report["resumed_rows"] + report["remaining_rows"] == 4 * NUM_ROWS
    assert not (folder / "p.npy").exists()
    assert output.count(f"runner: stopped by {why}: ") == 1
    assert f"{report['remaining_rows']:,} left" in output
    assert "Traceback" not in output


def assert_goes_on(folder: Path, launcher: str) -> None:
    (folder / "slowly").unlink()
    before = committed(folder)
    outcome = run(predict_command(*OPTIONS, launcher=LAUNCHERS[launcher]), folder)
    assert outcome.code == 0, outcome.output
    assert (folder / "p.npy").read_bytes() == (folder / "expected.npy").read_bytes()
    chunks = committed(folder)
    assert chunks[: len(before)] == before
    assert len(chunks) == len(set(chunks))


@pytest.mark.parametrize(
    ("launcher", "number", "next_launcher"),
    [
        ("alone", signal.SIGTERM, "mpirun-2"),
        ("alone", signal.SIGINT, "alone"),
        ("mpirun-3", signal.SIGUSR1, "alone"),  # which mpirun passes on; TERM, to Open MPI 5's, kills the ranks
        ("horovodrun-2", signal.SIGUSR1, "mpirun-3"),
    ],
)
def test_signal_to_the_launcher(launcher: str, number: signal.Signals, next_launcher: str, folder: Path) -> None:
    process = start(predict_command(*OPTIONS, launcher=LAUNCHERS[launcher]), folder)
    await_chunks(folder / "p.npy.run", 5, process)
    os.kill(process.pid, number)
    outcome = finish(process, PATIENCE)
    assert outcome.code == 75, outcome.output
    assert_stopped(folder, outcome.output, "a signal")
    assert_goes_on(folder, next_launcher)


HEARING = ["env", "--default-signal=HUP"]  # a shell or service may have started these tests with hangups ignored
ALL = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


@pytest.mark.parametrize("number", ALL, ids=lambda number: number.name)
def test_each_signal(number: signal.Signals, folder: Path) -> None:
    process = start([*HEARING, *predict_command(*OPTIONS)], folder)
    await_chunks(folder / "p.npy.run", 3, process)
    os.kill(process.pid, number)
    outcome = finish(process, PATIENCE)
    assert outcome.code == 75, outcome.output
    assert outcome.output.count("runner: stopping. What is recorded is kept; the same command resumes.") == 1
    assert_stopped(folder, outcome.output, "a signal")


@pytest.mark.cold
@pytest.mark.parametrize(("launcher", "number"), [("alone", each) for each in ALL] + [("mpirun-2", signal.SIGUSR2)])
def test_while_python_imports(launcher: str, number: signal.Signals, folder: Path) -> None:
    """PyTorch takes its time, on a cold file system minutes; here the first module that it imports does."""
    slow = folder / "slow"
    (slow / "torch").mkdir(parents=True)
    (slow / "torch/__init__.py").write_text(
        "import os\nimport time\nrank = os.environ.get('OMPI_COMM_WORLD_RANK', '0')\n"
        "open(f'importing-{rank}', 'w').close()\ntime.sleep(60)\n"
    )
    env = environment()
    env["PYTHONPATH"] = str(slow)
    process = start([*HEARING, *predict_command(*OPTIONS, launcher=LAUNCHERS[launcher])], folder, env)
    ranks = 2 if launcher == "mpirun-2" else 1
    await_that(lambda: len(list(folder.glob("importing-*"))) == ranks, process)
    began = time.monotonic()
    os.kill(process.pid, number)
    outcome = finish(process, PATIENCE)
    assert outcome.code == 75, outcome.output
    assert time.monotonic() - began < 10
    assert outcome.output.count("runner: stopped by a signal before the job began") == 1
    assert not (folder / "p.npy.run").exists()


def test_while_the_model_is_loaded(folder: Path) -> None:
    (folder / "slow.py").write_text(
        "import time\nimport torch\nfrom torch import nn\n"
        "def build():\n    open('loading', 'w').close()\n    time.sleep(3)\n    return nn.Identity()\n"
    )
    command = ["--model", "slow:build", "--weights", "none", "--data", "d.npy", "--output", "p.npy"]
    process = start(predict_command(*command, launcher=LAUNCHERS["mpirun-2"]), folder)
    await_that((folder / "loading").exists, process)
    os.kill(process.pid, signal.SIGUSR1)
    outcome = finish(process, PATIENCE)
    assert outcome.code == 75, outcome.output
    assert outcome.output.count("stopped by a signal") == 1, outcome.output
    assert not (folder / "p.npy").exists()


def test_a_job_that_outlives_its_terminal(folder: Path) -> None:
    """With nohup, a hangup is ignored."""
    process = start(["nohup", *predict_command(*OPTIONS)], folder)
    await_chunks(folder / "p.npy.run", 3, process)
    os.kill(process.pid, signal.SIGHUP)
    (folder / "slowly").unlink()
    assert finish(process, PATIENCE).code == 0
    assert (folder / "p.npy").read_bytes() == (folder / "expected.npy").read_bytes()


@pytest.mark.cold
def test_the_same_command_right_after_its_launcher_is_killed(folder: Path) -> None:
    """It waits for the rank that is about to stop."""
    process = start(predict_command(*OPTIONS, launcher=LAUNCHERS["mpirun-1"]), folder)
    await_chunks(folder / "p.npy.run", 3, process)
    os.kill(process.pid, signal.SIGKILL)
    assert_goes_on(folder, "alone")
    finish(process, PATIENCE)


@pytest.mark.cold
def test_a_rank_whose_launcher_is_killed(folder: Path) -> None:
    """One rank does not use MPI, which ends the ranks of larger jobs."""
    process = start(predict_command(*OPTIONS, launcher=LAUNCHERS["mpirun-1"]), folder)
    await_chunks(folder / "p.npy.run", 3, process)
    rank = pid_of_rank(0, folder)
    os.kill(process.pid, signal.SIGKILL)
    await_end(rank)
    finish(process, PATIENCE)
    report = json.loads((folder / "p.npy.run/report.json").read_text())
    assert (report["status"], report["stopped_by"]) == ("stopped", "the end of its launcher")
    assert_goes_on(folder, "alone")


SLEEP = (
    "import os\nimport time\n\ndef build():\n"
    "    open('sleeping-' + os.environ['OMPI_COMM_WORLD_RANK'], 'w').close()\n    time.sleep(60)\n"
)


@pytest.mark.cold
@pytest.mark.parametrize(
    ("module", "launcher"),
    [
        ("torch", LAUNCHERS["mpirun-2"]),  # MPI has not started, so cannot end them
        ("slow", [*LAUNCHERS["mpirun-1"], "bash", "-c", '"$@"; true', "bash"]),  # which outlives the launcher, too
    ],
)
def test_ranks_that_import_or_load_when_their_launcher_is_killed(
    module: str, launcher: list[str], folder: Path
) -> None:
    (folder / "torch.py").write_text(f"{SLEEP}\nbuild()\n")
    (folder / "slow.py").write_text(SLEEP)
    if module == "slow":
        (folder / "torch.py").unlink()
    command = ["--model", "slow:build", "--weights", "none", "--data", "d.npy", "--output", "p.npy"]
    process = start(predict_command(*command, launcher=launcher), folder)
    ranks = range(2 if module == "torch" else 1)
    await_that(lambda: len(list(folder.glob("sleeping-*"))) == len(ranks), process)
    pids = [pid_of_rank(rank, folder) for rank in ranks]
    began = time.monotonic()
    os.kill(process.pid, signal.SIGKILL)
    for pid in pids:
        await_end(pid)
    assert time.monotonic() - began < 20
    finish(process, PATIENCE)
    (folder / "torch.py").unlink(missing_ok=True)
    (folder / "slow.py").write_text("from zoo import mlp as build\n")
    outcome = run(predict_command(*command), folder)
    assert outcome.code == 0, outcome.output


@pytest.mark.cold
def test_a_signal_at_which_the_launcher_kills_its_ranks(folder: Path) -> None:
    """It drops what ranks print from then on, so that the notice goes past it into the log."""
    with (folder / "log").open("w") as log:
        process = start(predict_command(*OPTIONS, launcher=LAUNCHERS["mpirun-2"]), folder, stdout=log)
    await_chunks(folder / "p.npy.run", 3, process)
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process, PATIENCE).code in (1, 75)
    said = (folder / "log").read_text()
    assert said.count("runner: stopping. What is recorded is kept; the same command resumes.") == 1, said


@pytest.mark.cold
def test_a_terminal_that_is_closed(folder: Path) -> None:
    """Nothing can be printed any more, which is no reason to fail."""
    relay = (
        "import signal, subprocess, sys\nprocess = None\n"
        "signal.signal(signal.SIGHUP, lambda *_: process.send_signal(signal.SIGHUP))\n"
        "process = subprocess.Popen(sys.argv[1:])\nopen('code', 'w').write(str(process.wait()))\n"
    )
    command = [str(word) for word in [sys.executable, "-c", relay, *HEARING, *predict_command(*OPTIONS)]]
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        os.execvpe(command[0], command, environment())
    give_up = time.monotonic() + PATIENCE
    while len(committed(folder)) < 3:
        assert time.monotonic() < give_up
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 1 << 16)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert (folder / "code").read_text() == "75"
    assert json.loads((folder / "p.npy.run/report.json").read_text())["stopped_by"] == "a signal"
    assert not (folder / "p.npy.run/failure.json").exists()


@pytest.mark.cold
@pytest.mark.parametrize("launcher", ["alone", "mpirun-2", "horovodrun-2"])
def test_an_interrupt_at_a_terminal(launcher: str, folder: Path) -> None:
    """Launchers drop what ranks print after it, and kill them after half a second."""
    command = [str(word) for word in predict_command(*OPTIONS, launcher=LAUNCHERS[launcher])]
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        os.execvpe(command[0], command, environment())
    reader = threading.Thread(target=lambda: printed.extend(read_all(terminal)))
    printed: list[bytes] = []
    reader.start()
    give_up = time.monotonic() + PATIENCE
    while len(committed(folder)) < 3:
        assert time.monotonic() < give_up, printed
        time.sleep(0.05)
    os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in ((75,) if launcher == "alone" else (1, 75))
    reader.join()
    os.close(terminal)
    said = b"".join(printed).decode()
    assert said.count("runner: stopping. What is recorded is kept; the same command resumes.") == 1, said
    assert_goes_on(folder, "alone")


def read_all(terminal: int) -> Iterator[bytes]:
    """What is printed, until the last process has left the terminal."""
    with contextlib.suppress(OSError):
        while content := os.read(terminal, 1 << 16):
            yield content


def await_end(pid: int) -> None:
    give_up = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_a_second_interrupt_ends_at_once(folder: Path) -> None:
    rows = np.load(folder / "d.npy")
    rows[300, 0] = 1000.0
    np.save(folder / "d.npy", rows)
    hangs = json.dumps({"value": 1000.0, "how": "sleep", "flag": "hangs"})
    hangs = ["--model", "zoo:HangsAtRow", "--model-args", hangs, "--data", "d.npy", "--output", "p.npy"]
    process = start(predict_command(*hangs), folder)
    await_chunks(folder / "p.npy.run", 9, process)
    await_that((folder / "hangs").exists, process)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    outcome = finish(process, PATIENCE)
    assert outcome.code == 75, outcome.output
    assert outcome.output.count("runner: error: interrupted at once. What is recorded is kept") == 1
    assert "Traceback" not in outcome.output
    assert len(committed(folder)) == 9  # all before that batch


@pytest.mark.parametrize("rank", [0, 1])
def test_signal_to_one_rank_stops_all(rank: int, folder: Path) -> None:
    process = start(predict_command(*OPTIONS, launcher=LAUNCHERS["mpirun-2"]), folder)
    await_chunks(folder / "p.npy.run", 5, process)
    os.kill(pid_of_rank(rank, folder), signal.SIGTERM)
    outcome = finish(process, PATIENCE)
    assert outcome.code == 75, outcome.output
    assert_stopped(folder, outcome.output, "a signal")


def test_time_limit_over_several_jobs(folder: Path) -> None:
    command = predict_command(*OPTIONS, launcher=LAUNCHERS["mpirun-2"])
    for limit in LIMITS:
        outcome = run([*command, "--time-limit", f"0:00:{limit:02}"], folder)
        assert outcome.code == 75, outcome.output
        if committed(folder):
            break
    assert_stopped(folder, outcome.output, "the time limit")
    report = json.loads((folder / "p.npy.run/report.json").read_text())
    assert report["wall_seconds"] < limit + LATE  # from the start of the ranks; a launcher may take longer
    (folder / "slowly").unlink()
    outcome = run([*command, "--time-limit", "140"], folder)
    assert outcome.code == 0, outcome.output
    assert (folder / "p.npy").read_bytes() == (folder / "expected.npy").read_bytes()
    assert len(committed(folder)) == len(set(committed(folder))) == 4 * NUM_ROWS // BATCH_SIZE + 1


def test_the_schedulers_end_is_a_time_limit(folder: Path) -> None:
    for limit in LIMITS:
        env = environment(SLURM_JOB_END_TIME=str(int(time.time()) + limit))
        outcome = run(predict_command(*OPTIONS), folder, env=env)
        late = time.time() - int(env["SLURM_JOB_END_TIME"])
        assert outcome.code == 75, outcome.output
        if committed(folder):
            break
    assert late < LATE
    assert_stopped(folder, outcome.output, "the time limit")


def pid_of_rank(rank: int, folder: Path) -> int:
    """The process of a rank of the job that works in this folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder and f"OMPI_COMM_WORLD_RANK={rank}" in (
                (entry / "environ").read_text().split("\0")
            ):
                return int(entry.name)
        except OSError:  # it has ended, or is not ours
            continue
    raise AssertionError(f"no rank {rank}")
