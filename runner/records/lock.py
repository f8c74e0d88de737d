"""Lock of an output, `NAME.run/lock`, for one job at a time; a dead job does not hold it.

File locks are not available on every parallel file system. So the lock is a file that is created exclusively and
touched every few seconds. On the same host, its owner is alive if the process runs; from another host, if the file is
still being touched. Used by rank 0 alone.
"""

import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.core.errors import OutputError
from runner.host.process import Origin, is_running, own_origin, start_ticks

_TOUCH_SECONDS = 2.0
_PATIENCE_SECONDS = 15.0  # ranks end soon after their launcher
_WATCH_SECONDS = 4 * _TOUCH_SECONDS  # a lock of another host, untouched for this long, belongs to a dead job


class OutputLock:
    """Lock of one run folder.

    Args:
        folder: the run folder.
        output: name of the output in messages.

    Attributes:
        path: the file.
        lost: whether another job has taken the lock, because this one was suspended for long.
    """

    def __init__(self, folder: Path, output: str) -> None:
        self.path = folder / "lock"
        self._output = output
        self._released = threading.Event()
        self._inode = 0
        self.lost = False

    def refuse_if_held(self) -> None:
        """Raise OutputError if another live job holds the lock."""
        try:
            owner = dict(json.loads(self.path.read_text()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError):
            owner = {}  # being written, or torn: its age decides
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while is_alive := self._is_alive(owner):
            if not _lost_its_launcher(owner) or time.monotonic() > give_up:
                break
        if is_alive:
            raise OutputError(
                f"--output {self._output} is being written by another job: process {owner.get('pid', '?')} on "
                f"{owner.get('host', 'another host')}, since {owner.get('since', '?')}. Wait for it, or end it"
            )

    def is_held(self) -> bool:
        """Return whether a live job holds the lock; takes some seconds."""
        try:
            self.refuse_if_held()
        except OutputError:
            return True
        return False

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            OutputError: another live job holds it.
            OSError: the file cannot be written, or that of a dead job not be removed.
        """
        while True:
            self.refuse_if_held()
            self._remove_stale()
            try:
                fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue  # another job was quicker
            with os.fdopen(fd, "w") as file:
                self._inode = os.fstat(fd).st_ino  # first, so that `release` removes a lock that could not be written
                json.dump(_me(), file)
            break
        threading.Thread(target=self._keep_touching, name="lock", daemon=True).start()

    def release(self) -> None:
        """Release the lock for the next job."""
        if self._inode and not self._released.is_set():
            self._released.set()
            if self._is_ours():
                with contextlib.suppress(OSError):  # if the file stays, it counts as that of a dead job
                    self.path.unlink()

    def _keep_touching(self) -> None:
        while not self._released.wait(_TOUCH_SECONDS):
            if not self._is_ours():  # this job was suspended for so long that another took it for dead
                self.lost = True
                return
            with contextlib.suppress(OSError):  # failing storage shows where rows are written
                os.utime(self.path)

    def _is_ours(self) -> bool:
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False
        except OSError:  # storage that fails for a moment does not cost the lock
            return True

    def _is_alive(self, owner: dict[str, Any]) -> bool:
        me = _me()
        is_here = all(owner.get(key) == me[key] for key in ("host", "pid_namespace"))
        before = self._touched()
        give_up = time.monotonic() + _WATCH_SECONDS
        while time.monotonic() < give_up:
            if is_here and not is_running(owner.get("pid", 0), owner.get("start_ticks", 0)):
                return False
            if self._touched() != before:
                return self._touched() is not None  # touched: it lives; gone: it has ended
            time.sleep(_TOUCH_SECONDS / 8)
        return is_here  # a local process that does not touch it is suspended; a silent host is gone

    def _touched(self) -> int | None:
        try:
            with self.path.open() as file:  # opening asks the file server; a plain stat may be cached
                return os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return None

    def _remove_stale(self) -> None:
        # rename it first, so that of two jobs that see the same dead lock only one removes it
        grave = self.path.with_name(f"lock.{socket.gethostname()}.{os.getpid()}")
        try:
            os.rename(self.path, grave)
            grave.unlink()
        except FileNotFoundError:
            pass


def _lost_its_launcher(owner: dict[str, Any]) -> bool:
    """Return whether a process that started the owner, such as its launcher, has ended, as far as this host tells."""
    try:
        return owner.get("host") == socket.gethostname() and Origin(owner["pid"], **owner["origin"]).has_ended()
    except (KeyError, TypeError):
        return False


def _me() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pid_namespace": os.readlink("/proc/self/ns/pid"),
        "origin": {key: value for key, value in asdict(own_origin()).items() if key != "pid"},
        "start_ticks": start_ticks(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
