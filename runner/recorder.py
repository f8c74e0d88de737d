"""Rank 0's side of the output: sink and ledger together, so that a chunk is recorded once it is written.

The folder `NAME.run/` beside the output `NAME` keeps the records: `config.toml`, `ledger.jsonl`, `report.json`.
"""

import os
import shutil
import time
from collections.abc import Iterator
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
from runner.progress import Progress
from runner.sinks import RowType, Sink, open_sink
from runner.sinks.memory import MemorySink


class Recorder:
    """The output of one job, on rank 0.

    Args:
        config: the job.
        where: who works on it, in words.

    Attributes:
        write_seconds: spent in `deliver`.
        resumed_rows: committed by earlier jobs.
        predictions: `(num_rows, ...)` once finished, where there is no output file; else None.
    """

    def __init__(self, config: Config, where: str) -> None:
        self._config, self._where = config, where
        self._folder = Path(f"{config.output}.run") if config.output else None
        self._partial = Path(f"{config.output}.partial")
        self._starts_over = True
        self._ledger: Ledger | None = None
        self._sink: Sink | None = None
        self._progress: Progress | None = None
        self.write_seconds = 0.0
        self.resumed_rows = 0
        self.predictions: np.ndarray | None = None

    def prepare(self, fingerprint: dict[str, Any]) -> None:
        """Look at what is there before any long work; change nothing.

        Args:
            fingerprint: the fields that are known so far.

        Raises:
            OutputError: the output cannot be written, or exists.
            InputError: an unfinished run of another job is there.
        """
        if self._folder is None:
            return
        output = Path(self._config.output or "")
        if not output.parent.is_dir():
            raise OutputError(f"--output {output}: there is no folder {output.parent}")
        if output.is_dir():
            raise OutputError(f"--output {output} is a folder")
        if output.exists() and not self._config.overwrite:
            raise OutputError(f"--output {output} exists already; --overwrite replaces it once the new one is whole")
        for folder in (output.parent, self._folder):
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise OutputError(f"--output {output}: the folder {folder} is not writable")
        # without the partial file a ledger is worth nothing
        self._starts_over = self._config.fresh or not self._partial.exists()
        if not self._starts_over:
            Ledger(self._folder).check(fingerprint)

    def open(self, fingerprint: dict[str, Any], grid: Grid, row_type: RowType) -> set[int]:
        """Open sink and ledger; return the chunks that an earlier job has committed and that are still what it wrote.

        Raises:
            OutputError: the output cannot be written.
            InputError: an unfinished run of another job is there.
        """
        if self._folder is None:
            self._sink = MemorySink(grid.num_rows, row_type)
            self._progress = Progress(grid.num_rows, 0, self._where)
            return set()
        with _storage_errors(str(self._folder)):
            if self._starts_over:
                self._partial.unlink(missing_ok=True)
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(exist_ok=True)
        self._ledger = Ledger(self._folder)
        self._ledger.check(fingerprint)
        with _storage_errors(str(self._folder)):
            (self._folder / "config.toml").write_text(tomli_w.dumps(self._config.resolved()))
        resume = self._ledger.fingerprint is not None
        self._sink = sink = open_sink(self._config.output or "", grid.num_rows, row_type, resume)
        self._ledger.open(fingerprint)
        intact = {
            commit.chunk: commit.stop - commit.start
            for commit in self._ledger.commits.values()
            if checksum(sink.read(commit.start, commit.stop)) == commit.checksum
        }
        self.resumed_rows = sum(intact.values())
        self._progress = Progress(grid.num_rows, self.resumed_rows, self._where)
        return set(intact)

    def deliver(self, commit: Commit, rows: np.ndarray) -> None:
        """Write a chunk, then record it.

        Raises:
            OutputError: the storage failed.
        """
        assert self._sink is not None
        assert self._progress is not None
        began = time.perf_counter()
        self._sink.write(commit.start, rows)
        if self._ledger is not None:
            self._ledger.commit(commit)
        self._progress.add(len(rows))
        self.write_seconds += time.perf_counter() - began

    def suspend(self) -> None:
        """Leave what is done so far to the next job.

        Raises:
            OutputError: the storage failed.
        """
        assert self._sink is not None
        assert self._progress is not None
        self._progress.close()
        self._sink.sync()
        self._sink.close()
        if self._ledger is not None:
            self._ledger.sync()
            self._ledger.close()

    def finish(self) -> None:
        """Give the whole output its name.

        Raises:
            OutputError: the storage failed.
        """
        assert self._sink is not None
        assert self._progress is not None
        self._progress.close()
        if self._ledger is not None:
            self._ledger.sync()
            self._ledger.close()
        self._sink.finish()
        if isinstance(self._sink, MemorySink):
            self.predictions = self._sink.rows

    def write_report(self, text: str) -> None:
        """Keep the report; where there is an output file, this is the last record.

        Raises:
            OutputError: the storage failed.
        """
        if self._folder is None:
            return
        path = self._folder / "report.json"
        with _storage_errors(str(path)):
            beside = path.with_suffix(".json.partial")
            beside.write_text(text)
            os.replace(beside, path)


@contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{what}: {error.strerror or error}") from error
