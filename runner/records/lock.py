"""One job at a time for one output: `NAME.run/lock`, which a dead job does not hold.

File locks are not to be had on every parallel file system. So the lock is a file that is created exclusively and
touched every few seconds. Whether its owner lives is seen from its process on the same host, and from another host by
whether the file is still being touched. Used by rank 0 alone.
"""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from runner.core.errors import OutputError
from runner.host.launch import is_running, start_ticks

_TOUCH_SECONDS = 2.0
_WATCH_SECONDS = 4 * _TOUCH_SECONDS  # untouched for this long, a lock of another host is a dead job's


class OutputLock:
    """The lock of one run folder.

    Args:
        folder: the run folder.
        output: how messages call the output.
    """

    def __init__(self, folder: Path, output: str) -> None:
        self._path, self._output = folder / "lock", output
        self._released = threading.Event()
        self._inode = 0
        self.lost = False

    def refuse_if_held(self) -> None:
        """Raise OutputError where another job that lives holds the lock."""
        try:
            owner = dict(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError):
            owner = {}  # it is being written, or torn: its age tells
        if self._is_alive(owner):
            raise OutputError(
                f"--output {self._output} is being written by another job: process {owner.get('pid', '?')} on "
                f"{owner.get('host', 'another host')}, since {owner.get('since', '?')}. Wait for it, or end it"
            )

    def is_held(self) -> bool:
        """Whether a job that lives holds the lock; takes some seconds to tell."""
        try:
            self.refuse_if_held()
        except OutputError:
            return True
        return False

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            OutputError: another job that lives holds it.
        """
        while True:
            self.refuse_if_held()
            self._remove_stale()
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue  # another job was quicker
            except OSError as error:
                raise OutputError(f"{self._path}: {error.strerror}") from error
            with os.fdopen(fd, "w") as file:
                json.dump(_me(), file)
                self._inode = os.fstat(fd).st_ino
            break
        threading.Thread(target=self._keep_touching, name="lock", daemon=True).start()

    def release(self) -> None:
        """Let the next job in."""
        if self._inode and not self._released.is_set():
            self._released.set()
            if self._is_ours():
                with contextlib.suppress(OSError):  # left behind, it counts as that of a dead job
                    self._path.unlink()

    def _keep_touching(self) -> None:
        while not self._released.wait(_TOUCH_SECONDS):
            if not self._is_ours():  # we were suspended for so long that another job took us for dead
                self.lost = True
                return
            with contextlib.suppress(OSError):  # storage that fails shows where rows are written
                os.utime(self._path)

    def _is_ours(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False
        except OSError:  # storage that fails for a moment takes nobody's lock away
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
        return is_here  # a process that does nothing is suspended; a host that does nothing is gone

    def _touched(self) -> int | None:
        try:
            with self._path.open() as file:  # opening asks the file server, where a plain stat may be cached
                return os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return None

    def _remove_stale(self) -> None:
        # by renaming it first, so that of two jobs that see the same dead lock one removes it
        grave = self._path.with_name(f"lock.{socket.gethostname()}.{os.getpid()}")
        try:
            os.rename(self._path, grave)
            grave.unlink()
        except FileNotFoundError:
            pass


def _me() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pid_namespace": os.readlink("/proc/self/ns/pid"),
        "start_ticks": start_ticks(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
