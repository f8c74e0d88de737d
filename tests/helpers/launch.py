"""Start real ranks with the real launchers, each with a time limit, and leave no process behind."""

import atexit
import contextlib
import functools
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HELPERS = Path(__file__).parent
TESTS = HELPERS.parent
PROGRAMS = TESTS / "programs"  # run by ranks
ROOT = TESTS.parent
BIN = Path(sys.executable).parent

# Open MPI refuses to run as root, as containers do, unless told twice; version 5 asks under another name
AS_ROOT = {f"{prefix}_ALLOW_RUN_AS_ROOT{suffix}": "1" for prefix in ("OMPI", "PRTE") for suffix in ("", "_CONFIRM")}
MPIRUN = ("mpirun", "--oversubscribe", "-np")
PATIENCE = 150.0  # seconds, for what takes ten on a machine that is not busy
is_preloaded = True  # see `python`
_TEMPORARY = tempfile.TemporaryDirectory(prefix="launch-")
atexit.register(_TEMPORARY.cleanup)  # left to itself, it warns, which in tests is an error


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str  # stdout and stderr, as they came


def environment(**extra: str) -> dict[str, str]:
    """Of a launched command: this interpreter's programs, the tests' modules, one thread, ranks that wait in peace."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    test = ROOT / os.environ.get("PYTEST_CURRENT_TEST", "tests/none.py").partition("::")[0]
    modules = f"{HELPERS}{os.pathsep}{test.parent}"  # some models are in the file of the test
    own = {"PATH": path, "PYTHONPATH": modules, "OMP_NUM_THREADS": "1"}
    return {**os.environ, **AS_ROOT, **patience(), **own, **extra}


@functools.cache
def patience() -> dict[str, str]:
    """Return variables with which ranks that wait leave the processors to others; storage can fail, see `faults.c`."""
    library = f"{_TEMPORARY.name}/patience.so"
    sources = [HELPERS / "patience.c", HELPERS / "faults.c"]  # one library, or ranks of faults would not be forks
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, *sources, "-ldl"], check=True)
    return {"LD_PRELOAD": library, "OMPI_MCA_mpi_yield_when_idle": "1"}


def start(
    command: Sequence[str | Path],
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """A command in a session of its own, so that it can be ended with all its children.

    And with a folder of its own for temporary files: what Open MPI leaves there when it is killed keeps a launch that
    gets the same process id from starting. horovodrun is preloaded in any test: it imports PyTorch just to ask Horovod
    how it was built.
    """
    if command[0] == "horovodrun":
        command = [*preloaded(), sys.executable, BIN / "horovodrun", *command[1:]]
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env={**(env or environment()), "TMPDIR": tempfile.mkdtemp(dir=_TEMPORARY.name)},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float) -> Outcome:
    """Wait for the end; past the time limit, kill the whole session and fail."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"still running after {timeout} s; it had printed:\n{output}") from None
    return Outcome(process.returncode, output)


def run(
    command: Sequence[str | Path], cwd: Path, timeout: float = PATIENCE, env: Mapping[str, str] | None = None
) -> Outcome:
    """Run a command to its end."""
    return finish(start(command, cwd, env), timeout)


def await_that(what: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something is true while a command runs."""
    give_up = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.02)


def await_chunks(run_folder: Path, number: int, process: "subprocess.Popen[str]") -> None:
    """Wait until the ledger in a run's folder names so many chunks."""
    await_that(lambda: len(recorded_chunks(run_folder)) >= number, process)


def recorded_chunks(run_folder: Path) -> list[int]:
    """The chunks that the ledger in a run's folder names, in the order in which they were recorded."""
    path = run_folder / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    records = [json.loads(line) for line in lines[1:] if line.endswith("\n")]  # the last may be on its way
    return [record["chunk"] for record in records if "chunk" in record]


def mpirun(np: int) -> list[str]:
    """The beginning of a command that starts `np` ranks with mpirun."""
    return [*MPIRUN, str(np)]


def horovodrun(np: int) -> list[str]:
    """The same with horovodrun."""
    return ["horovodrun", "-np", str(np)]


LAUNCHERS: dict[str, list[str]] = {
    "alone": [],
    "mpirun-1": mpirun(1),
    "mpirun-2": mpirun(2),
    "mpirun-3": mpirun(3),
    "mpirun-5": mpirun(5),
    "horovodrun-2": horovodrun(2),
}


def run_here(*words: str | Path, folder: Path) -> Outcome:
    """`python -m runner WORDS` in this process, which has imported PyTorch already."""
    from runner.cli.main import main

    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    return Outcome(code, said.getvalue())


def predict_here(*options: str | Path, folder: Path) -> Outcome:
    """`predict_command` in this process."""
    return run_here("predict", "--threads", "1", *options, folder=folder)


def python() -> list[str | Path]:
    """The beginning of a command that runs Python, preloaded unless the test is marked `cold`."""
    return [*preloaded(), sys.executable] if is_preloaded else [sys.executable]


def script(path: Path, *words: str) -> list[str | Path]:
    """A command that runs a script, which starts Python by `sys.executable`: preloaded."""
    program = "import runpy, sys; sys.executable, *sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], {}, '__main__')"
    return [sys.executable, "-c", program, commands() / "python", path, *words]


@functools.cache
def commands(socket: Path | None = None) -> Path:
    """A folder with `python`, `hvd-runner` and `horovodrun`, preloaded, to be put before PATH.

    Args:
        socket: of the server where there is one, as on a host of its own; else it is that of these tests.
    """
    folder = Path(tempfile.mkdtemp(dir=_TEMPORARY.name))
    *proxy, own = map(str, preloaded())
    where = f"socket={own}\n" + (f"[ -S {socket} ] && socket={socket}\n" if socket else "")
    for name, program in (("python", []), ("hvd-runner", [BIN / "hvd-runner"]), ("horovodrun", [BIN / "horovodrun"])):
        words = shlex.join(map(str, [sys.executable, *program]))
        (folder / name).write_text(f'#!/bin/sh\n{where}exec {shlex.join(proxy)} "$socket" {words} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@functools.cache
def preloaded() -> list[str | Path]:
    path = Path(_TEMPORARY.name) / "preloading"
    command = [sys.executable, HELPERS / "preloading.py", path]
    server = subprocess.Popen(command, env={**environment(), "PYTHONPATH": str(HELPERS)}, stdin=subprocess.PIPE)
    atexit.register(server.communicate)  # it ends with its standard input
    await_that(path.exists, server)
    return [sys.executable, "-IS", HELPERS / "preloaded.py", path]


def predict_command(*options: str | Path, launcher: Sequence[str] = ()) -> list[str | Path]:
    """`LAUNCHER python -m runner predict OPTIONS` with one thread, so that bytes can be compared."""
    assert shutil.which("mpirun", path=environment()["PATH"]), "no mpirun beside this interpreter: scripts/setup.sh"
    return [*launcher, *python(), "-m", "runner", "predict", "--threads", "1", *options]
