"""Recorder of an output file: joins sink and records, so that a chunk is recorded only after it is written.

The folder `NAME.run/` beside the output `NAME` holds the records: `config.toml`, `ledger.jsonl`, `quarantine.jsonl`,
`manifest.json`, `timeline.json`, `report.json` or `failure.json`, and those of the running job, `lock` and
`status.json`.
"""

import json
import os
import time
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import tomli_w

from runner.chunks.commit import Commit
from runner.chunks.grid import Grid
from runner.config.options import Config
from runner.core.atomic import write_text
from runner.core.checksum import checksum
from runner.core.errors import OutputError
from runner.core.urls import is_url, local_name
from runner.data.rows import RowTypes
from runner.records.claim import Claim
from runner.records.failure import clear_outcome, last_end
from runner.records.fingerprint import origin_of
from runner.records.ledger import Ledger
from runner.records.manifest import make_manifest
from runner.records.ownership import OutputPaths, clear_records
from runner.records.recorder import Committed, Recorder
from runner.sinks import open_sink, remove
from runner.sinks.remote import Remote

_CHECKERS = 4  # threads that read committed chunks again
_SYNC_SECONDS = 15.0  # a crash of rank 0's host, unlike that of a process, may cost what was computed for this long


class FileRecorder(Recorder):
    """Recorder of a job whose output is a file or folder, with a ledger from which the next job resumes.

    Args:
        config: options of the job.
        output: its output; for a URL, it is made in the current folder, under the last part of its name.
    """

    def __init__(self, config: Config, output: str) -> None:
        super().__init__(config.max_bad, config)
        self._remote: Remote | None = None
        self._given = local_name(output)
        self._config = config
        self._paths = OutputPaths.of(self._given)
        self._output = self._paths.output
        self._partial = self._paths.partial
        self._folder = self._paths.folder
        self._claim = Claim(config, self._paths)
        self._is_whole = False
        self._ledger: Ledger
        self._row_type: RowTypes
        self._recorded: list[Commit] = []  # by this job
        self._open_files = ExitStack()
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._syncing: Future[None] | None = None
        self._last_sync = time.monotonic()

    def prepare(self, fingerprint: dict[str, Any]) -> None:
        self._find_remote()
        self._claim.take(self._remote, fingerprint)
        self._open_metrics()

    def look(self, fingerprint: dict[str, Any]) -> None:
        """Raise what `prepare` would raise, and change nothing."""
        self._find_remote()
        self._claim.look(self._remote, fingerprint)

    def _find_remote(self) -> None:
        if is_url(str(self._config.output)):
            self._remote = Remote(str(self._config.output))

    def open(
        self, fingerprint: dict[str, Any], grid: Grid, row_type: RowTypes, job: dict[str, Any], where: str
    ) -> Committed:
        self._row_type = row_type
        ledger = self._claim.confirm(fingerprint)
        with self._claim.storage_errors():
            if ledger is None:
                remove(self._partial)
                clear_records(self._folder)
            elif self._claim.lacks_only_its_report():
                os.replace(self._output, self._partial)  # to be checked and finished as any other unfinished run
            before = last_end(self._folder)
            clear_outcome(self._folder)
        self._ledger = ledger or Ledger(self._folder)
        self._write("config.toml", tomli_w.dumps(self._config.resolved()))
        if self._ledger.fingerprint is None:
            with self._claim.storage_errors():
                remove(self._partial)
        earlier_jobs = list(self._ledger.jobs)
        if self._ledger.commits and any(earlier.get("answers") for earlier in earlier_jobs):
            job = job | {"answers": None}  # which are to be equal to those
        # before the partial output, which without a ledger would be of unknown origin
        self._ledger.open(fingerprint, job | {"before": before} if earlier_jobs else job)
        self._open_files.callback(self._ledger.close)
        self._sink = open_sink(self._given, grid, row_type, origin_of(fingerprint))
        self._open_files.callback(self._sink.close)
        commits = list(self._ledger.commits.values())
        with ThreadPoolExecutor(_CHECKERS, thread_name_prefix="checker") as pool:
            for commit, intact in zip(commits, pool.map(self._is_intact, commits), strict=True):
                if not intact:
                    del self._ledger.commits[commit.chunk]
        intact_commits = self._ledger.commits.values()
        for commit in intact_commits:
            self._count(commit)
        done_rows = sum(commit.stop - commit.start for commit in intact_commits)
        self.resumed_rows = done_rows - self.bad_rows
        self._begin_progress(grid, self._ledger.commits, job, where, self._folder)
        may_have_changed = any(job_before.get("data") != job["data"] for job_before in earlier_jobs)
        to_check = [(c.chunk, c.inputs) for c in intact_commits if c.inputs] if may_have_changed else []
        return Committed(frozenset(self._ledger.commits), to_check, tuple(earlier_jobs))

    def finish(self) -> None:
        self._close()
        file_checksum = self._sink.complete()
        manifest = make_manifest(self._output.name, self._row_type, self._ledger, self.bad_rows, file_checksum)
        self._write("manifest.json", manifest)
        self._claim.refuse_late_output()
        self._sink.finish()
        if self._remote:
            self._remote.put(str(self._output))
        self._is_whole = True

    def suspend(self) -> None:
        self._close()
        self._sink.close()

    def write_report(self, report: str, timeline: str) -> None:
        self._write("timeline.json", timeline)
        self._write("report.json", report)
        if self._is_whole:  # and only now does all that has been computed exist once more
            self._sink.discard()
            if self._remote:
                with self._claim.storage_errors():
                    remove(self._output)

    def distrust(self, ranks: Collection[int]) -> int:
        withdrawn = [commit for commit in self._recorded if commit.rank in ranks]
        self._ledger.withdraw([commit.chunk for commit in withdrawn])
        return sum(commit.stop - commit.start for commit in withdrawn)

    def release(self) -> None:
        super().release()
        self._syncer.shutdown()
        self._open_files.close()
        self._claim.release()

    def _is_intact(self, commit: Commit) -> bool:
        return checksum(self._sink.read(commit.start, commit.stop)) == commit.checksum

    def _keep(self, commit: Commit) -> None:
        self._ledger.commit(commit)
        self._recorded.append(commit)
        if self._claim.is_lost:
            raise OutputError(f"--output {self._output}: another job took the lock while this one was suspended")
        if self._syncing is not None and self._syncing.done():
            self._syncing.result()
            self._syncing = None
            self._last_sync = time.monotonic()
        if self._syncing is None and time.monotonic() - self._last_sync > _SYNC_SECONDS:
            self._syncing = self._syncer.submit(self._sync)

    def _sync(self) -> None:
        self._sink.sync()
        self._ledger.sync()

    def _close(self) -> None:
        self._end_progress()
        self._syncer.shutdown()
        self._sync()
        if self.bad_rows:
            bad = [row for _, commit in sorted(self._ledger.commits.items()) for row in commit.bad]
            self._write("quarantine.jsonl", "".join(json.dumps(row) + "\n" for row in bad))
        self._ledger.close()

    def _write(self, name: str, text: str) -> None:
        with self._claim.storage_errors():
            write_text(self._folder / name, text)
