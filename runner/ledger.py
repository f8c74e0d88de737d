"""Which chunks are committed, in `NAME.run/ledger.jsonl`; used by rank 0 alone, knows nothing of how chunks are made.

The first line is the fingerprint: what run the ledger belongs to. Then one line a committed chunk, written in one
append after the chunk's rows are in the output. A torn last line, left by a death in the middle of an append, counts
as never written.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.errors import InputError, OutputError


@dataclass(frozen=True)
class Commit:
    """One committed chunk.

    Attributes:
        chunk: its index.
        start, stop: its rows.
        checksum: of its rows' bytes as they are in the output.
        rank: who computed it.
        seconds: the time that took.
    """

    chunk: int
    start: int
    stop: int
    checksum: str
    rank: int
    seconds: float


class Ledger:
    """The ledger of one output.

    Args:
        folder: the run folder.

    Attributes:
        fingerprint: of the unfinished run found there, None where there is none.
        commits: its committed chunks by index.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"
        self.fingerprint: dict[str, Any] | None = None
        self.commits: dict[int, Commit] = {}
        self._fd = -1
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            raw = b""
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from error
        whole_lines = raw[: raw.rfind(b"\n") + 1]
        self._whole_bytes = len(whole_lines)
        lines = whole_lines.splitlines()
        try:
            if lines:
                self.fingerprint = json.loads(lines[0])
            for line in lines[1:]:
                commit = Commit(**json.loads(line))
                self.commits[commit.chunk] = commit
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.path} is damaged ({error}). --fresh forgets it and starts over") from error

    def check(self, fingerprint: dict[str, Any]) -> None:
        """Raise InputError where the unfinished run differs from this one, naming how; only the given fields count."""
        if self.fingerprint is None:
            return
        found = self.fingerprint
        differing = [
            f"{name} (was {found.get(name)!r}, is {value!r})"
            for name, value in fingerprint.items()
            if found.get(name) != value
        ]
        if differing:
            raise InputError(
                f"{self.path.parent} holds an unfinished run of another job: it differs in {', '.join(differing)}. "
                "Give the same options to go on with it, --fresh to forget it and start over, or another --output"
            )

    def open(self, fingerprint: dict[str, Any]) -> None:
        """Start to append, after the last whole line; a new ledger gets the fingerprint first."""
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.ftruncate(self._fd, self._whole_bytes)
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from error
        if self.fingerprint is None:
            self.fingerprint = fingerprint
            self._append(fingerprint)

    def commit(self, entry: Commit) -> None:
        """Record a chunk whose rows are in the output."""
        self._append(asdict(entry))
        self.commits[entry.chunk] = entry

    def sync(self) -> None:
        """Make the records survive a crash of the machine."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise OutputError(f"flushing {self.path} failed: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record).encode() + b"\n"
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            raise OutputError(f"writing {self.path} failed: {error.strerror}") from error
        if written != len(line):
            raise OutputError(f"writing {self.path} failed: {written} of {len(line)} bytes (disk full?)")
