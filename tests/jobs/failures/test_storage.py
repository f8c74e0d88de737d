"""Storage that fails, two jobs on one output, damaged records: nothing wrong under the final name, nothing lost."""

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zoo
from launch import (
    LAUNCHERS,
    PATIENCE,
    Outcome,
    await_chunks,
    await_that,
    finish,
    predict_command,
    predict_here,
    run,
    run_here,
    start,
)
from reference import plain_loop, random_rows

from runner.cli.main import main

NUM_ROWS, BATCH_SIZE = 1797, 32
OPTIONS = ["--model", "zoo:DiesOnce", "--data", "d.npy", "--output", "out/p.npy", "--batch-size", str(BATCH_SIZE)]
# half a minute's work and more as long as the file is there
OPTIONS += ["--model-args", json.dumps({"value": 1000.0, "flag": "flag", "seconds": 1.0, "slowly": "slowly"})]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = random_rows(NUM_ROWS, 8)
    rows[NUM_ROWS - 200, 0] = 1000.0  # where the model dies, if the file `flag` is there
    np.save(tmp_path / "d.npy", rows)
    np.save(tmp_path / "expected.npy", plain_loop(zoo.mlp(), rows, BATCH_SIZE))
    (tmp_path / "out").mkdir()
    return tmp_path


def predict(folder: Path, *more: str, launcher: str = "alone") -> Outcome:
    if launcher == "here":
        return predict_here(*OPTIONS, *more, folder=folder)
    return run(predict_command(*OPTIONS, *more, launcher=LAUNCHERS[launcher]), folder)


def is_right(folder: Path) -> bool:
    return (folder / "out/p.npy").read_bytes() == (folder / "expected.npy").read_bytes()


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """`out/` on a file system of its own, with room for the output and little more."""
    command = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", folder / "out"]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mount.stderr.strip()}")
    yield folder / "out"
    subprocess.run(["umount", folder / "out"], check=True)


def test_too_little_room_is_refused_before_the_start(folder: Path, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(100_000))
    outcome = predict(folder, launcher="here")
    assert outcome.code == 73, outcome.output
    assert "needs 70.2 KiB more" in outcome.output
    assert not (small_disk / "p.npy").exists()


def test_disk_that_fills_up_half_way(folder: Path, small_disk: Path) -> None:
    (folder / "slowly").touch()
    process = start(predict_command(*OPTIONS, launcher=LAUNCHERS["mpirun-2"]), folder)
    await_that((small_disk / "p.npy.partial").exists, process)
    with pytest.raises(OSError, match="No space"):
        (small_disk / "other").write_bytes(bytes(1 << 20))  # somebody else takes all the room there is left
    (folder / "slowly").unlink()
    outcome = finish(process, PATIENCE)
    assert outcome.code == 73, outcome.output
    assert outcome.output.count("runner: error") == 1
    assert "No space left on device" in outcome.output
    assert not (small_disk / "p.npy").exists()

    (small_disk / "other").unlink()
    outcome = predict(folder, launcher="here")
    assert outcome.code == 0, outcome.output
    assert is_right(folder)


@pytest.mark.parametrize("suffix", [".parquet", ".h5", ".csv", ".zarr"])
def test_disk_that_is_full_when_all_is_computed(suffix: str, folder: Path, small_disk: Path) -> None:
    """The spool has room, what is to be made of it has not."""
    (small_disk / "other").write_bytes(bytes(50_000))
    output = folder / f"out/p{suffix}"
    outcome = predict(folder, "--output", str(output), launcher="here")
    assert outcome.code == 73, outcome.output
    assert outcome.output.count("runner: error: --output: ") == 1
    assert f"p{suffix}.writing" in outcome.output
    assert not output.exists()
    (small_disk / "other").unlink()
    subprocess.run(["mount", "-o", "remount,size=1m", small_disk], check=True)
    outcome = predict(folder, "--output", str(output), launcher="here")
    assert outcome.code == 0, outcome.output
    assert json.loads((folder / f"out/p{suffix}.run/report.json").read_text())["resumed_rows"] == NUM_ROWS
    assert main(["verify", str(output)]) == 0
    assert sorted(path.name for path in small_disk.iterdir()) == [f"p{suffix}", f"p{suffix}.run"]


def test_limit_on_the_size_of_files(folder: Path) -> None:
    """As a quota does it: the room is there, but not for us."""
    command = " ".join(f"'{word}'" for word in predict_command(*OPTIONS))
    outcome = run(["bash", "-c", f"ulimit -f 40; exec {command}"], folder)  # KiB; the output has 71
    assert outcome.code == 73, outcome.output
    assert "File too large" in outcome.output
    assert predict(folder, launcher="here").code == 0
    assert is_right(folder)


def test_two_jobs_on_one_output(folder: Path) -> None:
    (folder / "slowly").touch()
    first = start(predict_command(*OPTIONS, launcher=LAUNCHERS["mpirun-2"]), folder)
    await_chunks(folder / "out/p.npy.run", 2, first)
    second = predict(folder, launcher="here")
    (folder / "slowly").unlink()
    assert second.code == 73, second.output
    assert "is being written by another job: process " in second.output
    assert f"on {os.uname().nodename}, since 20" in second.output
    assert finish(first, PATIENCE).code == 0
    assert is_right(folder)
    assert not (folder / "out/p.npy.run/lock").exists()


def test_the_lock_of_a_dead_job_is_not_in_the_way(folder: Path) -> None:
    (folder / "flag").touch()
    assert predict(folder).code != 0
    lock = folder / "out/p.npy.run/lock"
    owner = json.loads(lock.read_text())
    began = time.monotonic()
    # it sees at once that its process is gone, and does not wait whether it touches the lock again
    assert predict(folder, "--time-limit", "1", launcher="here").code == 75
    assert time.monotonic() - began < 8

    lock.write_text(json.dumps({**owner, "host": "another"}))  # of a host that cannot be asked: nobody touches it
    outcome = predict(folder, launcher="here")
    assert outcome.code == 0, outcome.output
    assert is_right(folder)


def test_the_lock_of_a_job_on_another_host_is_respected(folder: Path) -> None:
    (folder / "flag").touch()
    assert predict(folder).code != 0
    lock = folder / "out/p.npy.run/lock"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "host": "another", "pid": 77}))
    waiting = start(predict_command(*OPTIONS), folder)
    while waiting.poll() is None:  # what the job on the other host does
        os.utime(lock)
        time.sleep(0.2)
    outcome = finish(waiting, PATIENCE)
    assert outcome.code == 73, outcome.output
    assert "process 77 on another" in outcome.output


def test_death_between_the_name_and_the_last_record(folder: Path) -> None:
    assert predict(folder, launcher="here").code == 0
    (folder / "out/p.npy.run/report.json").unlink()
    outcome = predict(folder, launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    assert is_right(folder)
    assert json.loads((folder / "out/p.npy.run/report.json").read_text())["computed_rows"] == 0
    assert predict(folder, launcher="here").code == 73  # and now it exists already


def verify(folder: Path) -> Outcome:
    return run_here("verify", "out/p.npy", folder=folder)


def test_verify_finds_one_flipped_bit(folder: Path) -> None:
    assert predict(folder, launcher="mpirun-2").code == 0
    outcome = verify(folder)
    assert outcome.code == 0, outcome.output
    assert "all 1,797 rows present once, in order" in outcome.output
    with (folder / "out/p.npy").open("r+b") as file:
        file.seek(40_000)
        byte = file.read(1)[0]
        file.seek(40_000)
        file.write(bytes([byte ^ 4]))
    outcome = verify(folder)
    assert outcome.code == 65, outcome.output
    assert "rows 992 to 1023 not what was computed" in outcome.output


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def delete(path: Path, rng: random.Random) -> None:
    path.unlink()


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def swap_lines(path: Path, rng: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    rng.shuffle(lines)
    path.write_bytes(b"".join(lines))


def grow(path: Path, rng: random.Random) -> None:
    with path.open("ab") as file:
        file.write(rng.randbytes(50))


def test_a_run_of_a_version_with_fewer_options_goes_on_and_is_verified(folder: Path) -> None:
    (folder / "flag").touch()
    assert predict(folder).code != 0
    ledger = folder / "out/p.npy.run/ledger.jsonl"
    first, rest = ledger.read_text().split("\n", 1)
    fields = json.loads(first)
    assert fields.pop("types") is None
    ledger.write_text(f"{json.dumps(fields)}\n{rest}")
    assert predict(folder).code == 0
    assert json.loads((folder / "out/p.npy.run/report.json").read_text())["resumed_rows"] > 0
    assert is_right(folder)
    assert run_here("verify", "out/p.npy", folder=folder).code == 0


@pytest.mark.timeout(300)
def test_fuzz_of_what_a_run_leaves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never a wrong output under the final name, never a traceback as the answer."""
    monkeypatch.chdir(folder)
    (folder / "flag").touch()
    assert predict(folder).code != 0
    half, work = folder / "half", folder / "out"
    work.rename(half)
    damages: list[Callable[[Path, random.Random], None]] = [flip, truncate, delete, empty, swap_lines, grow]
    rng = random.Random(20)
    ends = {0: 0, 65: 0}
    arguments = ["predict", "--threads", "1", *OPTIONS]
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the model's slowness is of no use here
    for _ in range(120):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(half, work)
        files = [path for path in work.rglob("*") if path.is_file() and path.name != "lock"]
        for _ in range(rng.choice([1, 1, 2])):
            path = rng.choice(files)
            if path.exists() and path.stat().st_size:
                rng.choice(damages)(path, rng)
        code = main(arguments)
        said = capsys.readouterr()
        assert code in ends, said.err
        assert "Traceback" not in said.err
        ends[code] += 1
        assert (code == 0) == (work / "p.npy").exists()
        if code == 65:  # it says what to do, and that works
            assert "--fresh" in said.err
            assert main([*arguments, "--fresh"]) == 0
        assert is_right(folder)
        assert main(["verify", "out/p.npy"]) == 0
    assert ends[0] > 60
    assert ends[65] > 0
