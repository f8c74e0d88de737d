"""What a job shows while it runs: on a terminal, in a log, in `status.json`, to `watch`."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from launch import LAUNCHERS, PATIENCE, await_that, environment, finish, predict_command, run, start

import runner.telemetry.progress
from runner.cli.main import main
from runner.telemetry.status import Status, parse_status

ESCAPE = "\x1b"
# `mlp`, slowly; rank 1 speaks once, at the row `at`, and does then what `then` says
TALKS = """
import os, sys, time, warnings
import zoo

class Talks(zoo.OneIsSlow):
    def __init__(self, at, then, seconds=0.04, factor=1.0):
        super().__init__(1, seconds, factor)
        self.at, self.then = at, then

    def forward(self, rows):
        if bool((rows[:, 0] == self.at).any()):
            print("one\\ntwo\\nthree lines", file=sys.stderr, flush=True)
            warnings.warn("a warning")
            if self.then == "fail":
                raise ValueError("cannot digest this row")
            if self.then == "die":
                os.kill(os.getpid(), 9)
        return super().forward(rows)
"""


class Terminal:
    """A real one, of tmux, with a shell in it."""

    def __init__(self, folder: Path, columns: int, lines: int, **env: str) -> None:
        self._folder, self._socket = folder, tempfile.mkdtemp(prefix="tmux-")
        size = ["-x", str(columns), "-y", str(lines)]
        # a server of its own: it hands on our environment, and disturbs nobody
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, "bash --norc --noprofile", env=environment(**env))
        self.type("PS1='$ '; clear")

    def type(self, text: str) -> None:
        """Text, and the return key."""
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        self._tmux("send-keys", key)

    def resize(self, columns: int) -> None:
        self._tmux("resize-window", "-x", str(columns))

    def shows(self) -> str:
        """All lines, those that have left the screen at its top, too."""
        return self._tmux("capture-pane", "-p", "-S", "-500").rstrip()

    def has_cursor(self) -> bool:
        return self._tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def wait_for(self, what: str, then: Callable[[], bool] = lambda: True) -> str:
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            shown = self.shows()
            if re.search(what, shown) and then():
                return shown
            time.sleep(0.1)
        raise AssertionError(f"{what!r} has not come:\n{self.shows()}")

    def close(self) -> None:
        self._tmux("kill-server")
        shutil.rmtree(self._socket)

    def _tmux(self, *words: str, env: dict[str, str] | None = None) -> str:
        command = ["tmux", "-S", f"{self._socket}/s", *words]
        return subprocess.run(
            command, cwd=self._folder, env=env or environment(), check=True, capture_output=True, text=True
        ).stdout


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Makes terminals in a folder with data and a model."""
    if not shutil.which("tmux"):
        pytest.skip("tmux is missing")
    prepare(tmp_path)
    made: list[Terminal] = []

    def make(columns: int = 80, lines: int = 24, **env: str) -> Terminal:
        made.append(Terminal(tmp_path, columns, lines, **env))
        return made[-1]

    yield make
    for terminal in made:
        terminal.close()


def prepare(folder: Path, num_rows: int = 2000) -> None:
    np.save(folder / "d.npy", np.arange(num_rows, dtype=np.float32).repeat(8).reshape(-1, 8))
    (folder / "talks.py").write_text(TALKS)


def job(output: str, launcher: str, *options: str, **given: object) -> list[str]:
    """The arguments of `Talks` by name."""
    arguments = json.dumps({"at": -1, "then": ""} | given)
    words = ["--model", "talks:Talks", "--model-args", arguments, "--data", "d.npy", "--output", output]
    command = predict_command(*words, "--batch-size", "20", *options, launcher=LAUNCHERS[launcher])
    return [str(word) for word in command]


def typed(output: str, launcher: str, *options: str, **given: object) -> str:
    return " ".join(f"'{word}'" for word in job(output, launcher, *options, **given))


def status_of(folder: Path, output: str) -> Status | None:
    try:
        text = (folder / f"{output}.run/status.json").read_text()
    except FileNotFoundError:
        return None
    status = parse_status(text)
    assert status is not None, text  # it is replaced as a whole
    return status


def is_begun(folder: Path, output: str, num_rows: int = 1) -> Callable[[], bool]:
    return lambda: (status := status_of(folder, output)) is not None and status.done_rows >= num_rows


@pytest.mark.cold
def test_terminals_of_launchers(terminals: Callable[..., Terminal], tmp_path: Path) -> None:
    """The display of mpirun and horovodrun: a slow rank is named, what ranks print stays, and the size may change."""
    narrow, wide = terminals(80), terminals(200, 50)
    wide.type(typed("w.npy", "horovodrun-2", seconds=0.15))
    narrow.type(typed("n.npy", "mpirun-2", factor=7, at=1400))
    shown = wide.wait_for(r"rank 1 ━+╸?[━╺]* +[\d,]+ of 1,000, [\d.]+ rows/s")
    assert re.search(r"━+[╸╺]━+ +\d+ %\n[\d,]+ of 2,000 rows, [\d.]+ rows/s, \d+ s left\nrank 0 ━", shown)
    assert "(complete)" not in shown

    def names_a_straggler() -> bool:
        status = status_of(tmp_path, "n.npy")
        return status is not None and status.stragglers == [1] and not status.ended

    narrow.wait_for(r"\nrank 1 ━+[╸╺━]* .* of 1,000, \d+% of the median speed\n", names_a_straggler)
    narrow.resize(120)
    narrow.wait_for(r"\nn\.npy, \d+ s ━[━╸╺]{95,} +\d+ %\n")
    narrow.wait_for(
        r"a warning\n(.*\n)+n\.npy, .*━.* %\n(.*\n)+rank 1 ", is_begun(tmp_path, "n.npy", 1500)
    )  # anew below
    shown = narrow.wait_for(r"\(complete\)(.*\n)+\$$")
    assert narrow.has_cursor()
    assert re.search(r"\none\ntwo\nthree lines\n.*talks.py:\d+: UserWarning: a warning\n", shown)
    wide.wait_for(r" 100 %\n2,000 of 2,000 rows, .*\n.*runner: 2,000 rows -> w.npy \(complete\).*\n\$$")
    assert shown.count(" %\n") == 2  # that which was there when rank 1 spoke, and the last
    loading = (
        r"\nrunner: loading PyTorch \.\.\.\nrunner: loading the model talks:Talks \.\.\.\nrunner: 2,000 rows on 2 ranks"
    )
    assert len(re.findall(loading, shown)) == 1
    assert shown.count("runner: 2,000 rows on 2 ranks") == 1
    assert ESCAPE not in shown
    status = status_of(tmp_path, "n.npy")
    assert status is not None
    assert (status.ended, status.done_rows, status.seconds_left) == (True, 2000, 0.0)
    assert (status.num_rows, status.resumed_rows, status.world_size, status.launcher) == (2000, 0, 2, "mpirun")


@pytest.mark.cold
def test_terminals_of_jobs_that_end_badly(terminals: Callable[..., Terminal], tmp_path: Path) -> None:
    fails, dies, stopped = terminals(), terminals(), terminals()
    fails.type(typed("f.npy", "mpirun-2", then="fail", at=1600))
    dies.type(typed("d1.npy", "mpirun-2", then="die", at=600, seconds=0.1))
    stopped.type(typed("s.npy", "alone", seconds=0.2))
    stopped.wait_for(r"\d+ %\n", is_begun(tmp_path, "s.npy", 500))
    stopped.press("C-c")
    shown = stopped.wait_for(r"stopped by a signal: [\d,]+ of 2,000 rows done(.*\n)+\$$")
    assert re.search(r"[^\n]━+ +\d+ %\n[\d,]+ of 2,000 rows.*\nrunner: stopped by", shown.replace("^C", ""))

    shown = fails.wait_for(r"runner: error \[rank 1 of 2 on .*(.*\n)+\$$").replace("\n", "")
    assert "the model failed on row 1600: ValueError: cannot digest this row" in shown
    # it was killed, and can have left nothing in order: there must be nothing that has to be
    shown = dies.wait_for(r"ignal: 9|signal 9(.*\n)+\$$")
    assert re.search(r" %\n[\d,]+ of 2,000 rows.*\nrank 0 .*\nrank 1 .*\none\ntwo\nthree lines\n", shown)
    assert all(terminal.has_cursor() for terminal in (fails, dies, stopped))
    status = status_of(tmp_path, "d1.npy")
    assert status is not None
    assert not status.ended


def test_where_nothing_is_drawn_there_are_lines(terminals: Callable[..., Terminal], tmp_path: Path) -> None:
    """In the background, into a log, beside another reader, and where writing would stop a rank."""
    made = [terminals(200) for _ in range(4)]
    for index, (before, after) in enumerate([("", "2> log"), ("", "| tee log2"), ("", "&"), ("stty tostop; ", "")]):
        made[index].type(f"{before}{typed(f'{index}.npy', 'mpirun-1')} {after}")
    for index, terminal in enumerate(made):
        shown = terminal.wait_for(rf"runner: 2,000 rows -> {index}.npy \(complete\)")
        assert "━" not in shown
        assert shown.count("runner: 2,000 rows on 1 rank") == (index > 0)
    assert re.fullmatch(r"runner: 2,000 rows on 1 rank[^\x00-\x1f]+\n", (tmp_path / "log").read_text())


def test_one_process_on_a_terminal(tmp_path: Path) -> None:
    prepare(tmp_path, 97)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    env = environment(TERM="xterm")
    command = job("p.npy", "alone")
    done = subprocess.run(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=theirs, check=False)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "100 %" in shown
    assert "97 of 97 rows" in shown
    assert f"{ESCAPE}[?25l" not in shown  # a hidden cursor would be lost with a process that is killed
    assert done.stdout.startswith(b"runner: 97 rows -> p.npy (complete)")


def test_watch(terminals: Callable[..., Terminal], tmp_path: Path) -> None:
    prepare(tmp_path, 20_000)
    process = start(job("p.npy", "mpirun-2", seconds=0.2), tmp_path)  # almost two minutes' work
    await_that(is_begun(tmp_path, "p.npy"), process)
    terminal = terminals()
    terminal.type("python -m runner watch p.npy")
    terminal.wait_for(
        r"runner: 20,000 rows on 2 ranks under mpirun, since .*\np\.npy, \d+ s ━.*\n.* left\nrank 0 .*\nrank 1 .*"
    )
    # its storage fails
    (tmp_path / "p.npy.run/status.json.partial").mkdir()
    (tmp_path / "p.npy.run/status.json").unlink()
    done_rows = int(re.findall(r"([\d,]+) of 20,000 rows", terminal.shows())[-1].replace(",", ""))
    rows = re.compile(r"([\d,]+) of 20,000 rows")
    terminal.wait_for(rows.pattern, lambda: int(rows.findall(terminal.shows())[-1].replace(",", "")) > done_rows + 100)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    finish(process, PATIENCE)
    assert "2 ranks under mpirun" in terminal.wait_for(r"Next: the same command(.*\n)+\$$")


def test_watch_in_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    process = start(job("p.npy", "alone", seconds=0.06), tmp_path)
    await_that(is_begun(tmp_path, "p.npy"), process)
    monkeypatch.setattr(runner.telemetry.progress, "_LOG_SECONDS", ((float("inf"), 0.0),))
    assert main(["watch", "p.npy"]) == 0
    assert finish(process, PATIENCE).code == 0
    said = capsys.readouterr()
    assert re.match(r"runner: 2,000 rows on one process, since .*\nrunner: [\d,]+ of 2,000 rows \(", said.err)
    assert ESCAPE not in said.err
    assert said.out.startswith("p.npy is complete: 2,000 rows.\n")


def test_rows_in_quarantine_are_told(tmp_path: Path) -> None:
    prepare(tmp_path, 200)
    options = ["--on-error", "quarantine", "--max-bad", "1"]
    assert run(job("p.npy", "alone", *options, then="fail", at=20), tmp_path).code == 0
    status = status_of(tmp_path, "p.npy")
    assert status is not None
    assert (status.done_rows, status.resumed_rows, status.quarantined_rows, status.ended) == (200, 0, 1, True)
