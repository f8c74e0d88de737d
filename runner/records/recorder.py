"""Rank 0's side of the output: what every kind of output has in common."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from runner.chunks.commit import Commit
from runner.chunks.grid import Grid, share
from runner.chunks.schedule import MissingChunks
from runner.config.options import Config
from runner.core.errors import InputError
from runner.core.imports import name_of
from runner.core.secrets import hide_secrets
from runner.core.text import plural
from runner.core.urls import local_name
from runner.data.rows import RowTypes
from runner.sinks import Sink
from runner.telemetry.progress import Progress
from runner.telemetry.tally import Start

if TYPE_CHECKING:
    from runner.telemetry.prometheus import Metrics


@dataclass(frozen=True)
class Committed:
    """Chunks committed by earlier jobs.

    Attributes:
        chunks: indices of the chunks that need not be computed again.
        to_check: those to compare with the data, if it may have changed, each with the checksum of its input rows.
        jobs: descriptions of the jobs that have committed them, see `describe_job`.
    """

    chunks: frozenset[int] = frozenset()
    to_check: list[tuple[int, str]] = field(default_factory=list)
    jobs: tuple[dict[str, Any], ...] = ()


class Recorder(ABC):
    """Recorder of the output of one job, on rank 0.

    As a context manager it releases the output for the next job, however the block ends.

    Args:
        max_bad: the most bad rows allowed; None for any number.
        config: options of the job, for progress and metrics.

    Attributes:
        resumed_rows: rows committed by earlier jobs, without bad ones.
        bad_rows: rows set aside, by this job and earlier ones.
        nonfinite_rows: rows with a NaN or an infinity in their predictions, by this job and earlier ones.
        split_rows: rows in batches that were computed in smaller pieces, by this job and earlier ones.
        cut_rows, cut_tokens, token_limit: texts that the tokenizer cut, by this job and earlier ones; see `Commit`.
        counts: what the model counted, by name, likewise.
        predictions: see `MemorySink.predictions`, once finished, if there is no output file; else None.
    """

    def __init__(self, max_bad: int | None, config: Config | None = None) -> None:
        self._max_bad = max_bad
        self._shows = config
        self._sink: Sink
        self._metrics: Metrics | None = None
        self._progress: Progress | None = None
        self.resumed_rows = self.bad_rows = self.nonfinite_rows = self.split_rows = 0
        self.cut_rows = self.cut_tokens = self.token_limit = 0
        self.counts: Counter[str] = Counter()
        self.predictions: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @abstractmethod
    def prepare(self, fingerprint: dict[str, Any]) -> None:
        """Check the existing files before any long work; change nothing.

        Args:
            fingerprint: the fields that are known so far.

        Raises:
            OutputError: the output cannot be written, exists, or another job is at work on it.
            InputError: an unfinished run of another kind is there.
            UsageError: the metrics cannot be served or written.
        """

    @abstractmethod
    def open(
        self, fingerprint: dict[str, Any], grid: Grid, row_type: RowTypes, job: dict[str, Any], where: str
    ) -> Committed:
        """Open the output for writing.

        Args:
            fingerprint: all of its fields.
            grid: the partition of the rows.
            row_type: type of a row of predictions.
            job: description of this job for the ledger.
            where: the ranks that work on it, in words.

        Returns:
            The chunks that earlier jobs have committed and that are still intact.

        Raises:
            OutputError, InputError: see `prepare`.
        """

    @abstractmethod
    def finish(self) -> None:
        """Give the complete output its name.

        Raises:
            OutputError: the storage failed.
        """

    @abstractmethod
    def suspend(self) -> None:
        """Leave the committed chunks to the next job.

        Raises:
            OutputError: the storage failed.
        """

    @abstractmethod
    def write_report(self, report: str, timeline: str) -> None:
        """Store the report, the last record of a job, and its timeline.

        Raises:
            OutputError: the storage failed.
        """

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write rows into the output, from row `start` on.

        Raises:
            OutputError: the storage failed.
        """
        self._sink.write(start, rows)

    def record(self, commit: Commit) -> None:
        """Record that a chunk is written.

        Raises:
            OutputError: the storage failed.
            InputError: there are more bad rows than allowed.
        """
        self._count(commit)
        if self._max_bad is not None and self.bad_rows > self._max_bad:
            raise InputError(
                f"{plural(self.bad_rows, 'bad row')}, more than --max-bad {self._max_bad}. The latest is row "
                f"{commit.bad[-1]['row']}: {commit.bad[-1]['error']}",
                commit.bad[-1]["traceback"],
            )
        self._keep(commit)
        if self._progress:
            self._progress.add(commit)

    def distrust(self, ranks: Collection[int]) -> int:
        """Withdraw the chunks that these ranks have computed in this job; return the number of their rows."""
        return 0

    @abstractmethod
    def release(self) -> None:
        """Release the output; does nothing if it is released already."""
        self._end_progress()
        if self._metrics:
            self._metrics.close()

    def _open_metrics(self) -> None:
        config = self._shows
        if config and config.metrics is not None:
            from runner.telemetry.prometheus import Metrics  # which takes its time to import

            labels = {"output": hide_secrets(config.output or ""), "model": name_of(config.model)}
            self._metrics = Metrics(config.metrics, labels)

    def _begin_progress(
        self, grid: Grid, committed: Collection[int], job: dict[str, Any], where: str, folder: Path | None = None
    ) -> None:
        """Start to count chunks, and to show the progress.

        Args:
            grid, job, where: see `open`.
            committed: chunks that need not be computed again.
            folder: folder of the status file; None for none.
        """
        is_static = self._shows is not None and self._shows.schedule == "static"
        start = Start(
            num_rows=grid.num_rows,
            resumed_rows=self.resumed_rows,
            quarantined_rows=self.bad_rows,
            world_size=job["world_size"],
            launcher=job["launcher"],
            where=where,
            started=job["epoch"],
            group_size=job["model_parallel"],
            output=Path(local_name(self._shows.output or "")).name if self._shows else "",
            shares=_static_shares(grid, committed, job["world_size"] // job["model_parallel"]) if is_static else None,
        )
        self._progress = Progress(start, folder, self._metrics)

    def _end_progress(self) -> None:
        if self._progress:
            self._progress.close()

    def _count(self, commit: Commit) -> None:
        self.bad_rows += len(commit.bad)
        self.nonfinite_rows += commit.nonfinite
        self.split_rows += sum(last - first for first, last in commit.halved)
        self.cut_rows += commit.cut_rows
        self.cut_tokens += commit.cut_tokens
        self.token_limit = max(self.token_limit, commit.token_limit)
        self.counts.update(commit.counts)

    @abstractmethod
    def _keep(self, commit: Commit) -> None:
        """Store the record of a chunk."""


def _static_shares(grid: Grid, committed: Collection[int], num_slices: int) -> list[int]:
    """Return the number of rows of each slice."""
    missing = MissingChunks(grid, committed)
    shares = []
    for index in range(num_slices):
        own = share(len(missing), index, num_slices)
        num_chunks = sum(len(missing[position]) for position in own) if grid.shard_chunks else len(own)
        has_last = len(own) > 0 and missing[own.stop - 1][-1] == grid.num_chunks - 1
        short = grid.num_chunks * grid.chunk_size - grid.num_rows if has_last else 0
        shares.append(num_chunks * grid.chunk_size - short)
    return shares
