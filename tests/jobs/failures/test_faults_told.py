"""`python -m runner explain` tells every kind of end rightly, and no record is so damaged that it fails.

The jobs are real, and really fail; all run once, at the same time. What can be damaged is damaged in copies.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from launch import LAUNCHERS, PATIENCE, await_that, environment, finish, predict_command, start

from runner.cli.main import main
from runner.reports.pages import make_page

NUM_ROWS = 1797
LAST, FIRST = NUM_ROWS - 1.0, 200.0  # a row of the last rank, and one of rank 0
NEXT = "  hvd-runner predict --config p.npy.run/config.toml"
KILLED = " ended without a record of it. Its processes were killed: "


@dataclass(frozen=True)
class Job:
    """A job that ends in some way.

    Attributes:
        kill: which process of it to kill, once it has recorded chunks, which is long before its end; None where it
            ends by itself.
        says: what `explain` says of it, piece by piece.
    """

    launcher: str
    options: tuple[str, ...]
    says: tuple[str, ...]
    kill: Callable[["subprocess.Popen[str]"], None] | None = None
    flag: bool = False  # for DiesOnce
    env: tuple[tuple[str, str], ...] = ()


def model(name: str, **arguments: object) -> tuple[str, ...]:
    return ("--model", f"zoo:{name}", "--model-args", json.dumps(arguments))


def slowly(value: float = -1.0, seconds: float = 0.03) -> tuple[str, ...]:
    return model("DiesOnce", value=value, flag="flag", seconds=seconds)


def faulty(path: str, call: str, error: str) -> tuple[tuple[str, str], ...]:
    fault = {"FAULT_PATH": path, "FAULT_CALL": call, "FAULT_ERROR": error, "FAULT_AFTER": "12"}
    return tuple(fault.items())


def interrupt_twice(job: "subprocess.Popen[str]") -> None:
    await_that(Path(f"/proc/{job.pid}/cwd/hangs").exists, job)
    for _ in range(2):
        job.send_signal(signal.SIGINT)
        time.sleep(1)


def on_rank(rank: int) -> str:
    return f" with an error on rank {rank} of 2 on {os.uname().nodename}:\n"


JOBS = {
    "whole": Job("alone", model("mlp"), ("p.npy is complete: 1,797 rows.\n", "hvd-runner verify p.npy")),
    "a rank is killed": Job(
        "mpirun-2",
        slowly(value=LAST - 100),
        (KILLED, "Its rank 0 was on ", "The last chunk that was recorded was computed by rank ", NEXT),
        flag=True,
    ),
    "rank 0 is killed": Job("mpirun-2", slowly(value=FIRST), (KILLED, "2 ranks under mpirun", NEXT), flag=True),
    "all is killed": Job(
        "alone",
        slowly(seconds=0.3),
        (KILLED, "(sacct -j 4711, qstat -xf 4711 or bhist -l 4711, dmesg)", "It was started by:\n  python -m runner"),
        lambda job: os.killpg(job.pid, signal.SIGKILL),
        env=(("PBS_JOBID", "4711"),),
    ),
    "a signal": Job(
        "alone", slowly(seconds=0.3), (" stopped on purpose, by a signal.", NEXT), lambda job: job.terminate()
    ),
    "^C twice": Job(
        "alone",
        model("HangsAtRow", value=FIRST, how="sleep", flag="hangs"),
        (" was stopped at ", "interrupted at once. What is recorded is kept", NEXT),
        interrupt_twice,
    ),
    "the time limit": Job("alone", (*slowly(), "--time-limit", "1"), (" stopped on purpose, by the time limit.", NEXT)),
    "a row": Job(
        "mpirun-2",
        model("FailsAtRow", value=LAST),
        (
            on_rank(1),
            "the model failed on row 1796: ",
            "cannot digest this row",
            "--on-error quarantine sets bad rows aside",
            NEXT,
        ),
    ),
    "too many bad rows": Job(
        "alone",
        (*model("FailsAtRow", value=FIRST), "--on-error", "quarantine", "--max-bad", "0"),
        (
            " with an error:\n  1 bad row, more than --max-bad 0. The latest is row 200",
            "up to --max-bad of them",
            NEXT,
        ),
    ),
    "a bad row": Job(
        "alone",
        (*model("FailsAtRow", value=FIRST), "--on-error", "quarantine"),
        ("is complete: 1,797 rows. In quarantine: 1 row, listed in p.npy.run/quarantine.jsonl.\n",),
    ),
    "a rank hangs": Job(
        "mpirun-2",
        (*model("HangsAtRow", value=LAST, how="sleep"), "--stall-timeout", "12"),
        (on_rank(1), "no progress for ", "while computing rows 1792 to 1796", "exclude that host", NEXT),
    ),
    "a rank that computes wrong": Job(
        "mpirun-2",
        (*model("Deviates", rank=1, off=0.5),),
        ("p.npy does not exist, nor do its records: p.npy.run is missing", "see its log"),
    ),
    "a rank goes wrong": Job(
        "mpirun-2",
        (*model("Deviates", rank=1, off=0.5, after=4),),
        ("the answer to the canary is no longer what it was at the start on rank 1", "Withdrawn: ", "Safe: 896 of"),
    ),
    "read-only": Job(
        "alone",
        model("mlp"),
        (" with an error:\n", "Read-only file system", "Free space, or repair the storage.", NEXT),
        env=faulty("p.npy.partial", "pwrite", "30"),
    ),
    "no model": Job("alone", ("--model", "zoo:raises"), ("p.npy does not exist, nor do its records: p.npy.run is",)),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each job, after its end."""
    base = tmp_path_factory.mktemp("ended")
    rows = np.arange(NUM_ROWS, dtype=np.float32).repeat(8).reshape(-1, 8)
    np.save(base / "d.npy", rows)
    folders = {name: base / str(number) for number, name in enumerate(JOBS)}
    with ThreadPoolExecutor(3) as pool:  # there are few cores
        list(pool.map(lambda name: run_job(JOBS[name], folders[name]), JOBS))
    return folders


def run_job(job: Job, folder: Path) -> None:
    folder.mkdir()
    if job.flag:
        (folder / "flag").touch()
    options = [*job.options, "--data", "../d.npy", "--output", "p.npy"]
    process = start(predict_command(*options, launcher=LAUNCHERS[job.launcher]), folder, environment(**dict(job.env)))
    if job.kill:
        await_lines(folder / "p.npy.run/ledger.jsonl", 3, process)
        job.kill(process)
    finish(process, PATIENCE)


def await_lines(path: Path, number: int, process: "subprocess.Popen[str]") -> None:
    await_that(lambda: path.exists() and path.read_bytes().count(b"\n") >= number, process)


def explain(capsys: pytest.CaptureFixture[str], output: str = "p.npy") -> tuple[int, str]:
    code = main(["explain", output])
    said = capsys.readouterr()
    assert (said.err == "") == (code == 0)
    return code, said.out or said.err


@pytest.mark.parametrize("name", JOBS)
def test_each_end(
    name: str, ended: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ended[name])
    code, said = explain(capsys)
    for words in JOBS[name].says:
        assert words in said
    assert code == (65 if "nor do its records" in said else 0)


@pytest.fixture
def copy(ended: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Go to a copy of a job's folder; gives the run folder in it."""

    def make(name: str) -> Path:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(ended[name], tmp_path / "copy", symlinks=True)
        shutil.copy(ended[name].parent / "d.npy", tmp_path)
        monkeypatch.chdir(tmp_path / "copy")
        return Path("p.npy.run")

    return make


@pytest.mark.cold  # its process is named
def test_a_job_after_another(copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy("a signal")
    process = start(predict_command("--config", folder / "config.toml"), Path.cwd())
    lines = (folder / "ledger.jsonl").read_text().count("\n")
    await_lines(folder / "ledger.jsonl", lines + 3, process)
    code, said = explain(capsys)
    assert said.startswith(f"--output p.npy is being written by another job: process {process.pid} on ")
    assert code == 0
    os.killpg(process.pid, signal.SIGKILL)
    finish(process, PATIENCE)
    code, said = explain(capsys)
    assert KILLED in said
    assert "\nJobs before it:\n  20" in said
    assert ", 1 rank: stopped (a signal)\n" in said
    for given in ("p.npy.run", "p.npy.run/", "p.npy.partial"):  # as a shell completes the name
        assert explain(capsys, given)[1] == said


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there may be no room for a last word."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mount.stderr.decode().strip()}")
    try:
        monkeypatch.chdir(disk)
        np.save(tmp_path / "d.npy", np.zeros((NUM_ROWS, 8), np.float32))
        slow = slowly(seconds=0.3)  # or it would be whole before the disk is full
        process = start(predict_command(*slow, "--data", tmp_path / "d.npy", "--output", "p.npy"), disk)
        await_lines(Path("p.npy.run/ledger.jsonl"), 1, process)
        with pytest.raises(OSError, match="No space"):
            Path("other").write_bytes(bytes(1 << 20))
        assert finish(process, PATIENCE).code == 73
        code, said = explain(capsys)
        assert "No space left on device" in said or KILLED in said
        # a file that was beside another one when the disk became full may have left a page
        left = r"The file system of p\.npy\.run has [\d.]+ (bytes|KiB) left: that may have ended the job\. Free space"
        assert re.search(left, said)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "The file system of p.npy.run is read-only now: that may have ended the job" in explain(capsys)[1]
        assert code == 0
    finally:
        monkeypatch.chdir(tmp_path)
        subprocess.run(["umount", disk], check=True)


def test_what_is_gone(copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy("whole")
    Path("p.npy").unlink()
    assert "completed its output, which was moved or deleted since." in explain(capsys)[1]
    copy("whole")
    shutil.rmtree(folder)
    code, said = explain(capsys)
    assert (code, "p.npy exists, but has no records: p.npy.run is missing" in said) == (65, True)
    folder.mkdir()
    code, said = explain(capsys)
    assert (code, "p.npy.run holds no record of a job: it has no ledger.jsonl" in said) == (65, True)
    copy("all is killed")
    Path("p.npy.partial").unlink()
    said = explain(capsys)[1]
    assert "Nothing is safe: p.npy.partial, which held the rows so far, is missing." in said
    assert "Next: the same command, which starts over:" in said
    copy("a row")
    Path("p.npy").touch()
    assert "p.npy is that of an earlier run: it is replaced when the new one is complete." in explain(capsys)[1]


NAMES = ("ledger.jsonl", "report.json", "failure.json", "status.json", "timeline.json", "config.toml")
STRANGE = {"time": "x", "exit_code": [], "status": 5, "num_rows": "many", "quarantined_rows": {}, "stragglers": 3}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda content: content[: len(content) // 2 - 1].rstrip(b"\n"),
    "binary": lambda _: bytes(range(256)),
    "no object": lambda _: b"[1]\n",
    "strange": lambda _: json.dumps(STRANGE).encode() + b"\n",
    "newer": lambda content: content.replace(b"{", b'{"a_new_field": [1], ', 1),
    "no numbers": lambda content: re.sub(rb": [\d.]+(?=[,}\n])", b": NaN", content),
    "huge numbers": lambda content: re.sub(rb": [\d.]+(?=[,}\n])", b": 2e300", content),
}


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_damaged_records(
    damage: str, copy: Callable[[str], Path], ended: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for base in ("whole", "a row", "all is killed", "a signal"):
        folder = copy(base)
        for name in NAMES:
            path, original = folder / name, ended[base] / "p.npy.run" / name
            if not original.exists():
                continue
            if damage == "missing":
                path.unlink()
            else:
                path.write_bytes(DAMAGES[damage](original.read_bytes()))
            code, said = explain(capsys)
            check(base, name, damage, code, said)
            shutil.copy2(original, path)


def check(base: str, name: str, damage: str, code: int, said: str) -> None:
    """What is to be said of a job where one of its records is damaged."""
    about = f"{base}, {name} {damage}: {said}"
    unreadable = damage not in ("newer", "no numbers", "huge numbers", "strange")
    assert "Traceback" not in said, about
    if name == "ledger.jsonl" and base != "whole" and damage in ("binary", "no object"):
        assert code == 65, about
        assert "the first line of p.npy.run/ledger.jsonl is damaged. --fresh discards the run" in said, about
        return
    assert code == 0, about
    if base == "whole":
        if name == "report.json" and unreadable:
            assert "p.npy has all its rows, but its last record is missing." in said, about
            assert ("Damaged and ignored: p.npy.run/report.json" in said) == (damage != "missing"), about
        elif name != "report.json":
            assert said.startswith("p.npy is complete: 1,797 rows."), about
        return
    if name not in ("ledger.jsonl", "failure.json", "report.json"):
        words = {
            "a row": "cannot digest this row",
            "all is killed": KILLED,
            "a signal": "stopped on purpose, by a signal",
        }
        assert words[base] in said, about
    if name == "config.toml" and damage in ("cut", "binary", "no object", "missing"):
        assert "config.toml is" in said or NEXT in said, about
        if damage in ("binary", "missing"):
            how = "missing" if damage == "missing" else "damaged"
            assert f"p.npy.run/config.toml is {how}: give the same command as before." in said, about
    if name == "failure.json" and unreadable:
        assert KILLED in said, about
        assert ("Damaged and ignored: p.npy.run/failure.json" in said) == (damage != "missing"), about


def test_damaged_lines(copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Each counts as never written."""
    ledger = copy("a row") / "ledger.jsonl"
    before = int(explain(capsys)[1].partition(" chunks. They")[0].rpartition(" ")[2])
    lines = ledger.read_bytes().splitlines(keepends=True)
    lines[3], lines[4] = lines[3][:20] + b"\n", lines[4].replace(b'"start": ', b'"start": 1')
    ledger.write_bytes(b"".join(lines) + b'{"chunk": 5')
    assert f" rows ({int(100 * 32 * (before - 2) / NUM_ROWS)}%), in {before - 2} chunks." in explain(capsys)[1]


def test_a_page_of_each(ended: dict[str, Path], copy: Callable[[str], Path]) -> None:
    """The page that `python -m runner report` makes has to do with the same folders."""
    for name in JOBS:
        if not (ended[name] / "p.npy.run").is_dir():
            continue
        folder = copy(name)
        assert make_page("p.npy").startswith("<!doctype html>")
        if name not in ("whole", "a row", "all is killed"):
            continue
        for record in NAMES:
            path, original = folder / record, ended[name] / "p.npy.run" / record
            for damage in DAMAGES.values() if original.exists() else ():
                path.write_bytes(damage(original.read_bytes()))
                assert make_page("p.npy").startswith("<!doctype html>")
            path.unlink(missing_ok=True)
            assert make_page("p.npy").startswith("<!doctype html>")
            if original.exists():
                shutil.copy2(original, path)
