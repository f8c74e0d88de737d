"""Rank 0's side of the output: sink and records together, so that a chunk is recorded once it is written.

The folder `NAME.run/` beside the output `NAME` keeps the records: `config.toml`, `ledger.jsonl`, `manifest.json`,
`report.json`, and the `lock` of the job at work.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from runner.checksum import checksum
from runner.config import Config
from runner.errors import OutputError
from runner.grid import Grid
from runner.ledger import Commit, Ledger
from runner.lock import OutputLock
from runner.manifest import make_manifest
from runner.progress import Progress
from runner.report import read_status
from runner.sinks import RowType, Sink, open_sink
from runner.sinks.memory import MemorySink

_SYNC_SECONDS = 15.0  # a crash of rank 0's host, unlike that of a process, may cost what was computed for this long


class Recorder(ABC):
    """The output of one job, on rank 0.

    Attributes:
        write_seconds: spent in `deliver`.
        resumed_rows: committed by earlier jobs.
        predictions: `(num_rows, ...)` once finished, where there is no output file; else None.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._sink: Sink
        self._progress: Progress
        self.write_seconds = 0.0
        self.resumed_rows = 0
        self.predictions: np.ndarray | None = None

    @abstractmethod
    def prepare(self, fingerprint: dict[str, Any]) -> None:
        """Look at what is there before any long work; change nothing.

        Args:
            fingerprint: the fields that are known so far.

        Raises:
            OutputError: the output cannot be written, exists, or another job is at work on it.
            InputError: an unfinished run of another kind is there.
        """

    @abstractmethod
    def open(self, fingerprint: dict[str, Any], grid: Grid, row_type: RowType, job: dict[str, Any]) -> set[int]:
        """Make ready to write; return the chunks that earlier jobs have committed and that are still what they wrote.

        Raises:
            OutputError, InputError: as `prepare`.
        """

    @abstractmethod
    def finish(self) -> None:
        """Give the whole output its name.

        Raises:
            OutputError: the storage failed.
        """

    @abstractmethod
    def suspend(self) -> None:
        """Leave what is done so far to the next job.

        Raises:
            OutputError: the storage failed.
        """

    @abstractmethod
    def write_report(self, text: str) -> None:
        """Keep the report, the last record of a job.

        Raises:
            OutputError: the storage failed.
        """

    def deliver(self, commit: Commit, rows: np.ndarray) -> None:
        """Write a chunk, then record it.

        Raises:
            OutputError: the storage failed.
        """
        began = time.perf_counter()
        self._sink.write(commit.start, rows)
        self._record(commit)
        self._progress.add(len(rows))
        self.write_seconds += time.perf_counter() - began

    @abstractmethod
    def _record(self, commit: Commit) -> None:
        """Note that a chunk is written."""


def make_recorder(config: Config, where: str) -> Recorder:
    """The recorder of a job.

    Args:
        config: the job.
        where: who works on it, in words.
    """
    return MemoryRecorder(where) if config.output is None else FileRecorder(config, config.output, where)


class MemoryRecorder(Recorder):
    """Into memory, for callers from Python; nothing is left of a job that does not end."""

    def prepare(self, fingerprint: dict[str, Any]) -> None:
        pass

    def open(self, fingerprint: dict[str, Any], grid: Grid, row_type: RowType, job: dict[str, Any]) -> set[int]:
        self._sink = MemorySink(grid.num_rows, row_type)
        self._progress = Progress(grid.num_rows, 0, self._where)
        return set()

    def finish(self) -> None:
        self._progress.close()
        assert isinstance(self._sink, MemorySink)
        self.predictions = self._sink.rows

    def suspend(self) -> None:
        self._progress.close()

    def write_report(self, text: str) -> None:
        pass

    def _record(self, commit: Commit) -> None:
        pass


class FileRecorder(Recorder):
    """Into a file, with a ledger to go on from."""

    def __init__(self, config: Config, output: str, where: str) -> None:
        super().__init__(where)
        self._config, self._output = config, Path(output)
        self._partial, self._folder = Path(f"{output}.partial"), Path(f"{output}.run")
        self._lock = OutputLock(self._folder, output)
        self._starts_over = True
        self._ledger: Ledger
        self._fingerprint: dict[str, Any] = {}
        self._row_type: RowType
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._syncing: Future[None] | None = None
        self._last_sync = time.monotonic()

    def prepare(self, fingerprint: dict[str, Any]) -> None:
        output = self._output
        if not output.parent.is_dir():
            raise OutputError(f"--output {output}: there is no folder {output.parent}")
        if output.is_dir():
            raise OutputError(f"--output {output} is a folder")
        for folder in (output.parent, self._folder):
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise OutputError(f"--output {output}: the folder {folder} is not writable")
        self._lock.refuse_if_held()
        if output.exists() and not self._config.overwrite and not self._lacks_only_its_report():
            raise OutputError(f"--output {output} exists already; --overwrite replaces it once the new one is whole")
        # without its rows a ledger is worth nothing
        has_rows = self._partial.exists() or self._lacks_only_its_report()
        self._starts_over = self._config.fresh or not has_rows
        if not self._starts_over:
            Ledger(self._folder).check(fingerprint)

    def open(self, fingerprint: dict[str, Any], grid: Grid, row_type: RowType, job: dict[str, Any]) -> set[int]:
        self._fingerprint, self._row_type = fingerprint, row_type
        with self._storage_errors():
            self._folder.mkdir(exist_ok=True)
        self._lock.acquire()
        with self._storage_errors():
            if self._starts_over:
                self._partial.unlink(missing_ok=True)
                for path in self._folder.iterdir():
                    if path.name != "lock":
                        path.unlink()
            elif self._lacks_only_its_report():
                os.replace(self._output, self._partial)  # to be checked and finished as any other unfinished run
        self._ledger = Ledger(self._folder)
        self._ledger.check(fingerprint)
        self._write("config.toml", tomli_w.dumps(self._config.resolved()))
        resume = self._ledger.fingerprint is not None
        self._sink = sink = open_sink(str(self._output), grid.num_rows, row_type, resume)
        self._ledger.open(fingerprint, job)
        intact = {
            commit.chunk: commit.stop - commit.start
            for commit in self._ledger.commits.values()
            if commit == _on_grid(commit, grid) and checksum(sink.read(commit.start, commit.stop)) == commit.checksum
        }
        for chunk in set(self._ledger.commits) - set(intact):
            del self._ledger.commits[chunk]
        self.resumed_rows = sum(intact.values())
        self._progress = Progress(grid.num_rows, self.resumed_rows, self._where)
        return set(intact)

    def finish(self) -> None:
        self._close()
        manifest = make_manifest(self._output.name, self._fingerprint, self._row_type, self._ledger)
        self._write("manifest.json", manifest)
        self._sink.finish()

    def suspend(self) -> None:
        self._close()
        self._sink.close()

    def write_report(self, text: str) -> None:
        self._write("report.json", text)
        self._lock.release()

    def _record(self, commit: Commit) -> None:
        self._ledger.commit(commit)
        if self._lock.lost:
            raise OutputError(f"--output {self._output}: another job took the lock while this one was suspended")
        if self._syncing is not None and self._syncing.done():
            self._syncing.result()
            self._syncing, self._last_sync = None, time.monotonic()
        if self._syncing is None and time.monotonic() - self._last_sync > _SYNC_SECONDS:
            self._syncing = self._syncer.submit(self._sync)

    def _sync(self) -> None:
        self._sink.sync()
        self._ledger.sync()

    def _close(self) -> None:
        self._progress.close()
        self._syncer.shutdown()
        self._sync()
        self._ledger.close()

    def _lacks_only_its_report(self) -> bool:
        """Whether a job died between giving the output its name and its last record."""
        if not self._output.exists() or self._partial.exists() or read_status(self._folder) == "whole":
            return False
        return Ledger(self._folder).is_complete

    def _write(self, name: str, text: str) -> None:
        with self._storage_errors():
            beside = self._folder / f"{name}.partial"
            beside.write_text(text)
            os.replace(beside, self._folder / name)

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{error.filename or self._folder}: {error.strerror or error}") from error


def _on_grid(commit: Commit, grid: Grid) -> Commit | None:
    """The commit, if it is of a chunk of the grid: a damaged ledger may say anything."""
    if not 0 <= commit.chunk < grid.num_chunks:
        return None
    chunk = grid.chunk(commit.chunk)
    return commit if (commit.start, commit.stop) == (chunk.start, chunk.stop) else None
