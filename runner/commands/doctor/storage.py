"""Checks of the output's folder: whether all hosts share it, as a job needs it, and how much space is free."""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from runner.comm import Comm
from runner.commands.doctor.finding import OK, WARNING, WRONG, Finding
from runner.core.errors import OutputError
from runner.core.text import byte_size, duration, name_some, plural
from runner.host.filesystem import file_system

T = TypeVar("T")

_PATIENCE_SECONDS = 20.0  # NFS looks again for new files after 3 to 60 s, mostly 3
_SLOW_SECONDS = 5.0
_TEST_BYTES = 64 << 20
_LEAST_BYTES, _LEAST_INODES = 1 << 30, 100


def check_storage(comm: Comm, folder: str) -> list[Finding]:
    """Write on one host; read and write on the others; rename on the last, seen by the first. Every rank calls this."""
    path = Path(folder).absolute()
    name = comm.bcast(f".doctor-{secrets.token_hex(8)}")
    inside = path / name
    try:
        comm.on_root(lambda: _try(lambda: _begin(inside), path))
        try:
            return [_look(comm, inside, path), *comm.on_root(lambda: _try(lambda: _free_space(inside, path), path))]
        finally:
            comm.on_root(lambda: shutil.rmtree(inside, ignore_errors=True))
    except OutputError as error:
        fix = "free space, ask for quota, or check another folder with --folder PATH and write the --output there"
        return [Finding("storage", WRONG, error.message, fix, exit_code=OutputError.exit_code)]


def _begin(inside: Path) -> None:
    inside.mkdir()
    _write(inside / "first", inside.name.encode())


def _look(comm: Comm, inside: Path, path: Path) -> Finding:
    """Let each host look for the file of rank 0, and the last one rename it."""
    is_first = comm.world.local_rank == 0
    seconds = _wait_for(lambda: (inside / "first").read_bytes() == inside.name.encode()) if is_first else 0.0
    if is_first and seconds is not None:
        comm_error = _attempt(lambda: _write(inside / f"from-{comm.world.rank}", b"here"))
    else:
        comm_error = ""
    states = comm.gather_all((comm.world.host, is_first, seconds, comm_error))
    if blind := [host for host, first, seconds, _ in states if first and seconds is None]:
        return Finding(
            "storage",
            WRONG,
            f"{path} is not shared by all hosts: {name_some(blind)} did not see within {_PATIENCE_SECONDS:.0f} s "
            f"what {states[0][0]} had written there",
            "use a folder on the shared file system for output and data",
            exit_code=OutputError.exit_code,
        )
    if failed := [f"{host} ({error})" for host, _, _, error in states if error]:
        return Finding(
            "storage",
            WRONG,
            f"{path}: no file can be written from {name_some(failed)}",
            "mount it for writing on all hosts",
            exit_code=OutputError.exit_code,
        )
    last = max(rank for rank, (_, first, _, _) in enumerate(states) if first)
    comm.on_each(lambda: _try(lambda: _rename(inside), path) if comm.world.rank == last else None)
    visible = comm.on_root(lambda: _wait_for((inside / "second").exists))
    slowest = max((visible or 0.0), *(seconds or 0.0 for _, _, seconds, _ in states))
    hosts = {host for host, *_ in states}
    if visible is None:
        return Finding(
            "storage",
            WRONG,
            f"{path}: {states[last][0]} renamed a file; {states[0][0]} did not see it within {_PATIENCE_SECONDS:.0f} s",
            "this file system does not support jobs on several hosts: use another one, or one host",
            exit_code=OutputError.exit_code,
        )
    where = "written, read and renamed" + (" between all hosts" if len(hosts) > 1 else "")
    message = f"{path} ({file_system(path)}): {where}, seen after {duration(slowest)} at most"
    verdict = OK if slowest < _SLOW_SECONDS else WARNING
    fix = "" if verdict == OK else "resume on another host only after a minute: it may not see the records before"
    return Finding("storage", verdict, message, fix, {"seconds_until_seen": slowest})


def _free_space(inside: Path, path: Path) -> list[Finding]:
    """Measure, on rank 0, the free space and the rate of writing."""
    state = os.statvfs(inside)
    free = state.f_bavail * state.f_frsize
    inodes = state.f_favail if state.f_files else None  # some file systems do not count them
    began = time.perf_counter()
    _write(inside / "large", bytes(_TEST_BYTES))
    rate = _TEST_BYTES / (time.perf_counter() - began)
    message = f"{byte_size(free)} free" + (f", room for {plural(inodes, 'file')}" if inodes is not None else "")
    message += f"; written at {byte_size(rate)}/s. A quota is not checked"
    figures = {"free_bytes": free, "free_inodes": inodes, "write_bytes_per_second": rate}
    if inodes is not None and inodes < _LEAST_INODES:
        fix = "remove files: a job makes about ten, and with --collect shards one for each shard"
        return [Finding("room", WRONG, message, fix, figures, OutputError.exit_code)]
    if free < _LEAST_BYTES:
        return [Finding("room", WARNING, message, "see with hvd-runner plan how much a job writes", figures)]
    return [Finding("room", OK, message, figures=figures)]


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _rename(inside: Path) -> None:
    (inside / "first").rename(inside / "second")


def _wait_for(is_there: Callable[[], bool]) -> float | None:
    """Return the seconds until a condition is true; None where it stays false."""
    began = time.monotonic()
    while (seconds := time.monotonic() - began) < _PATIENCE_SECONDS:
        try:
            if is_there():
                return seconds
        except OSError:
            pass
        time.sleep(0.02)
    return None


def _attempt(function: Callable[[], None]) -> str:
    """Call a function and return the reason for its OSError; empty where it succeeds."""
    try:
        function()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _try(function: Callable[[], T], path: Path) -> T:
    try:
        return function()
    except OSError as error:
        raise OutputError(f"{path} cannot be written to: {error.strerror or error}") from error
