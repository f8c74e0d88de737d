"""The storage under the output fails half-way, in every way it has: nothing is lost, and nothing wrong gets a name."""

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zoo
from launch import (
    LAUNCHERS,
    PATIENCE,
    Outcome,
    await_chunks,
    environment,
    finish,
    predict_command,
    predict_here,
    run,
    run_here,
    start,
)
from reference import plain_loop, random_rows

NUM_ROWS, BATCH_SIZE = 1797, 32
OPTIONS = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "out/p.npy", "--batch-size", str(BATCH_SIZE)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = random_rows(NUM_ROWS, 8)
    np.save(tmp_path / "d.npy", rows)
    np.save(tmp_path / "expected.npy", plain_loop(zoo.mlp(), rows, BATCH_SIZE))
    (tmp_path / "out").mkdir()
    return tmp_path


def predict(folder: Path, launcher: str = "alone", **env: str) -> Outcome:
    return run(predict_command(*OPTIONS, launcher=LAUNCHERS[launcher]), folder, env=environment(**env))


def is_right(folder: Path) -> bool:
    return (folder / "out/p.npy").read_bytes() == (folder / "expected.npy").read_bytes()


# where, what, with which error, and whether the chunks written before are there
FAULTS = [
    ("p.npy.partial", "pwrite", 12, errno.EROFS, True),
    ("p.npy.partial", "pwrite", 12, errno.ESTALE, True),
    ("p.npy.partial", "pwrite", 12, errno.EDQUOT, True),
    ("p.npy.partial", "pwrite", 1, errno.EIO, False),
    ("p.npy.partial", "fsync", 1, errno.EIO, True),
    ("out/p.npy", "rename", 1, errno.EROFS, True),
    ("p.npy.run/lock", "write", 1, errno.ENOSPC, False),
    ("ledger.jsonl", "write", 12, errno.EROFS, True),
    ("ledger.jsonl", "write", 1, errno.ENOSPC, False),
    ("ledger.jsonl", "fsync", 1, errno.EIO, True),
    ("manifest.json.partial", "write", 1, errno.ENOSPC, True),
    ("report.json.partial", "write", 1, errno.ENOSPC, True),
]


@pytest.mark.parametrize(("path", "call", "after", "error", "goes_on"), FAULTS)
def test_storage_that_fails(path: str, call: str, after: int, error: int, goes_on: bool, folder: Path) -> None:
    launcher = "mpirun-2" if error == errno.EROFS else "alone"
    fault = {"FAULT_PATH": path, "FAULT_CALL": call, "FAULT_ERROR": str(error)}
    outcome = predict(folder, launcher, FAULT_AFTER=str(after), **fault)
    assert outcome.code == 73, outcome.output
    assert outcome.output.count("runner: error") == 1
    assert "Traceback" not in outcome.output
    assert os.strerror(error) in outcome.output
    if not path.startswith("report.json"):  # by then the output is whole
        assert not (folder / "out/p.npy").exists()
    # with room again
    outcome = predict(folder, launcher) if launcher != "alone" else predict_here(*OPTIONS, folder=folder)
    assert outcome.code == 0, outcome.output
    assert is_right(folder)
    resumed = json.loads((folder / "out/p.npy.run/report.json").read_text())["resumed_rows"]
    assert (resumed > 0) == goes_on
    assert run_here("verify", "out/p.npy", folder=folder).code == 0


@pytest.mark.parametrize(("path", "call"), [("p.npy.partial", "pwrite"), ("ledger.jsonl", "write")])
def test_short_writes_are_completed(path: str, call: str, folder: Path) -> None:
    fault = {"FAULT_PATH": path, "FAULT_CALL": call, "FAULT_ERROR": "0", "FAULT_AFTER": "1"}
    outcome = predict(folder, **fault)
    assert outcome.code == 0, outcome.output
    assert is_right(folder)


def test_lock_of_a_dead_job_on_storage_that_is_read_only(folder: Path) -> None:
    slowly = predict_command(*OPTIONS, "--model", "zoo:DiesOnce", launcher=LAUNCHERS["alone"])
    arguments = {"value": 1e9, "flag": "none", "seconds": 0.5, "slowly": "slowly"}
    slowly += ["--model-args", json.dumps(arguments)]
    (folder / "slowly").touch()
    process = start(slowly, folder)
    await_chunks(folder / "out/p.npy.run", 6, process)
    os.kill(process.pid, signal.SIGKILL)
    finish(process, PATIENCE)
    (folder / "slowly").unlink()
    fault = {"FAULT_PATH": "", "FAULT_CALL": "rename", "FAULT_ERROR": str(errno.EROFS), "FAULT_AFTER": "1"}
    outcome = run(slowly, folder, env=environment(**fault))
    assert outcome.code == 73, outcome.output
    assert outcome.output.count("runner: error") == 1
    assert "p.npy.run/lock: Read-only file system" in outcome.output
    outcome = run(slowly, folder)
    assert outcome.code == 0, outcome.output
    assert is_right(folder)
    assert json.loads((folder / "out/p.npy.run/report.json").read_text())["resumed_rows"] > 0


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """`out/` on an ext4 file system of its own; yields its block device."""
    image = folder / "image"
    image.touch()
    os.truncate(image, 8 << 20)
    script = f"mkfs.ext4 -q {image} && mount -o loop,errors=remount-ro {image} {folder}/out && "
    script += f"findmnt -no SOURCE {folder}/out"
    made = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a file system in a file cannot be mounted: {made.stderr.strip()}")
    yield Path(made.stdout.strip())
    subprocess.run(["umount", folder / "out"], check=True)


def test_file_system_that_becomes_read_only(folder: Path, disk: Path) -> None:
    """As the kernel does it when it finds an error."""
    slowly = predict_command(*OPTIONS, launcher=LAUNCHERS["mpirun-2"])
    arguments = {"value": 1e9, "flag": "none", "seconds": 0.5, "slowly": "slowly"}
    slowly += ["--model", "zoo:DiesOnce", "--model-args", json.dumps(arguments)]
    (folder / "slowly").touch()
    process = start(slowly, folder)
    await_chunks(folder / "out/p.npy.run", 6, process)
    os.sync()  # what is in memory alone is lost with the file system
    Path(f"/sys/fs/ext4/{disk.name}/trigger_fs_error").write_text("on purpose")
    (folder / "slowly").unlink()
    outcome = finish(process, PATIENCE)
    assert outcome.code == 73, outcome.output
    assert outcome.output.count("runner: error") == 1
    assert "Read-only file system" in outcome.output

    subprocess.run(["umount", folder / "out"], check=True)
    # another mount namespace may keep the file system, which would be mounted again as it is: so a copy is
    shutil.copy(folder / "image", folder / "copy")
    checked = subprocess.run(["e2fsck", "-fp", folder / "copy"], check=False, capture_output=True)
    assert checked.returncode in (0, 1), checked.stdout  # 1: errors were corrected
    subprocess.run(["mount", "-o", "loop", folder / "copy", folder / "out"], check=True)
    outcome = run(slowly, folder)
    assert outcome.code == 0, outcome.output
    assert is_right(folder)
    assert json.loads((folder / "out/p.npy.run/report.json").read_text())["resumed_rows"] > 0
