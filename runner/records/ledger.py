"""Ledger of the committed chunks, `NAME.run/ledger.jsonl`; used by rank 0 alone, knows nothing of their making.

The first line is the fingerprint of the run the ledger belongs to. Then follow a line for each job that works on it and
one for each committed chunk, written in one append after the chunk's rows are in the output. A line may also withdraw
chunks that cannot be trusted after all: they count as never committed. A torn last line, left by a crash in the middle
of an append, counts as never written, and so does any damaged line: its chunk is computed again.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.chunks.commit import Commit
from runner.core.errors import InputError, OutputError
from runner.core.urls import local_name


def run_folder(output: str) -> Path:
    """Return the folder of an output's records, beside it; for a URL, in the current folder, where it is made."""
    return Path(f"{Path(local_name(output))}.run")


class Ledger:
    """Ledger of one output.

    Args:
        folder: the run folder.

    Attributes:
        fingerprint: fingerprint of the unfinished run in the folder; None where there is none.
        jobs: descriptions of the jobs that have worked on it, see `describe_job`.
        history: the commits of each of these jobs, in the order in which they were made, withdrawn ones too.
        commits: its committed chunks by index.
        latest: the last commit of the last job; None where it has made none.
        is_empty: whether no line is about a chunk, not even a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.jsonl"
        self.fingerprint: dict[str, Any] | None = None
        self.jobs: list[dict[str, Any]] = []
        self.history: list[list[Commit]] = []
        self.commits: dict[int, Commit] = {}
        self.latest: Commit | None = None
        self._fd = -1
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            raw = b""
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from error
        self.is_empty = b'"chunk":' not in raw
        whole_lines = raw[: raw.rfind(b"\n") + 1]
        self._whole_bytes = len(whole_lines)
        lines = whole_lines.splitlines()
        if lines:
            self.fingerprint = _parse(lines[0])
            if self.fingerprint is None:
                raise InputError(f"the first line of {self.path} is damaged. --fresh discards the run and starts over")
        for record in filter(None, map(_parse, lines[1:])):
            if isinstance(record.get("job"), dict):
                self.jobs.append(record["job"])
                self.history.append([])
                self.latest = None
            elif isinstance(record.get("withdrawn"), list):
                self.commits = {index: c for index, c in self.commits.items() if index not in record["withdrawn"]}
            elif (commit := _commit(record)) is not None and _is_on_grid(commit, self.fingerprint):
                self.commits[commit.chunk] = self.latest = commit
                if self.history:
                    self.history[-1].append(commit)

    def differences(self, fingerprint: dict[str, Any]) -> str:
        """Return how the unfinished run differs in the given fields, in words; empty where it does not."""
        former = self.fingerprint
        if former is None:
            return ""
        differences = [
            f"{name} (was {former.get(name)!r}, is {value!r})"
            for name, value in fingerprint.items()
            if former.get(name) != value and name != "code"
        ]
        former_code = former.get("code", {})  # records of earlier versions have none
        code = fingerprint.get("code", former_code) if former_code else {}
        differences += [
            f"the code of {name}"
            for name in sorted(code.keys() | former_code.keys())
            if code.get(name) != former_code.get(name)
        ]
        return ", ".join(differences)

    def check(self, fingerprint: dict[str, Any]) -> None:
        """Raise InputError if the unfinished run differs from this one in the given fields, naming the differences."""
        if differences := self.differences(fingerprint):
            raise InputError(
                f"{self.path.parent} holds an unfinished run of another job: it differs in {differences}. "
                "Give the same options to resume it, --fresh to discard it and start over, or another --output"
            )

    @property
    def is_complete(self) -> bool:
        """Whether every row is committed."""
        rows = sum(commit.stop - commit.start for commit in self.commits.values())
        return self.fingerprint is not None and rows == self.fingerprint.get("num_rows")

    def open(self, fingerprint: dict[str, Any], job: dict[str, Any]) -> None:
        """Start to append, after the last complete line.

        Args:
            fingerprint: the first line of a new ledger.
            job: description of this job.
        """
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.ftruncate(self._fd, self._whole_bytes)
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}") from error
        if self.fingerprint is None:
            self.fingerprint = fingerprint
            self._append(fingerprint)
        self._append({"job": job})
        self.jobs.append(job)

    def commit(self, entry: Commit) -> None:
        """Record a chunk whose rows are in the output."""
        self._append(asdict(entry))
        self.commits[entry.chunk] = entry

    def withdraw(self, chunks: list[int]) -> None:
        """Withdraw commits: the chunks are to be computed again."""
        self._append({"withdrawn": chunks})
        for chunk in chunks:
            self.commits.pop(chunk, None)

    def sync(self) -> None:
        """Make the records survive a crash of the host."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise OutputError(f"flushing {self.path} failed: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record).encode() + b"\n"
        try:
            while line:  # a disk that is almost full takes a part, and gives the reason the next time
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            raise OutputError(f"writing {self.path} failed: {error.strerror}") from error


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _commit(record: dict[str, Any]) -> Commit | None:
    try:
        commit = Commit(**record)
    except TypeError:
        return None
    numbers: list[Any] = [commit.chunk, commit.start, commit.stop, commit.nonfinite, commit.rank]
    numbers += [commit.cut_rows, commit.cut_tokens, commit.token_limit]
    if not isinstance(commit.bad, list) or not all(isinstance(bad, dict) for bad in commit.bad):
        return None
    if not isinstance(commit.halved, list) or not all(isinstance(batch, list) for batch in commit.halved):
        return None
    if not all(isinstance(seconds, int | float) for seconds in (commit.began, commit.seconds)):
        return None
    if not isinstance(commit.counts, dict):
        return None
    numbers += [bad.get("row") for bad in commit.bad] + list(commit.counts.values())
    return commit if all(type(number) is int for number in numbers) else None


def _is_on_grid(commit: Commit, fingerprint: dict[str, Any] | None) -> bool:
    """Return whether the rows of a commit are those of its chunk: a damaged line may hold anything."""
    num_rows, chunk_size = ((fingerprint or {}).get(name) for name in ("num_rows", "chunk_size"))
    if not isinstance(num_rows, int) or not isinstance(chunk_size, int):
        return False
    start = commit.chunk * chunk_size
    return 0 <= start < num_rows and (commit.start, commit.stop) == (start, min(start + chunk_size, num_rows))
