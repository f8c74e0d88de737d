"""Claim of a job on its output: nothing of others is destroyed, and no other job works on it at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from runner.config.options import Config
from runner.core.errors import InputError, OutputError
from runner.core.messages import tell
from runner.records.ledger import Ledger
from runner.records.lock import OutputLock
from runner.records.ownership import (
    OutputPaths,
    refuse_foreign,
    refuse_foreign_folder,
    refuse_inputs,
    refuse_other_kind,
    refuse_owner,
    refuse_unwritable,
)
from runner.sinks import path_checksum
from runner.sinks.remote import Remote
from runner.telemetry.report import read_record, read_status


class Claim:
    """Claim on one output; used by rank 0 alone.

    Args:
        config: options of the job.
        paths: names of the output.

    Attributes:
        starts_over: whether the job begins anew, rather than resume an unfinished run.
    """

    def __init__(self, config: Config, paths: OutputPaths) -> None:
        self._config = config
        self._paths = paths
        self._lock = OutputLock(paths.folder, str(config.output))
        self._remote: Remote | None = None
        self._made_folder = False
        self._had_output = False
        self.starts_over = True

    @property
    def is_lost(self) -> bool:
        """Whether another job has taken the output, because this one was suspended for long."""
        return self._lock.lost

    def take(self, remote: Remote | None, fingerprint: dict[str, Any]) -> None:
        """Take the output before the long work, so that no other job begins, or ends, with it meanwhile.

        Args:
            remote: destination of an output behind a URL.
            fingerprint: its fields that are known so far.

        Raises:
            OutputError: the output cannot be written, exists, is an input, or another job is at work on it.
            InputError: an unfinished run of another kind is there.
        """
        paths = self._paths
        self._refuse_names()
        with self.storage_errors():
            self._made_folder = not paths.folder.exists()
            paths.folder.mkdir(exist_ok=True)
            self._lock.acquire()
            refuse_owner(paths.folder, self._lock.path)
            self._decide(remote, fingerprint)

    def look(self, remote: Remote | None, fingerprint: dict[str, Any]) -> None:
        """Raise what `take` would raise, and change nothing."""
        self._refuse_names()
        self._lock.refuse_if_held()
        self._decide(remote, fingerprint)

    def _refuse_names(self) -> None:
        paths = self._paths
        refuse_inputs(self._config, paths)
        refuse_foreign_folder(paths)
        refuse_unwritable(paths)
        refuse_other_kind(self._config, paths)

    def _decide(self, remote: Remote | None, fingerprint: dict[str, Any]) -> None:
        """Decide whether to resume; refuse to do either."""
        paths = self._paths
        self._remote = remote
        self._refuse_existing()
        refuse_foreign(paths)
        # without its rows a ledger is worth nothing
        has_rows = paths.partial.exists() or self.lacks_only_its_report()
        self.starts_over = self._config.fresh or not has_rows
        self._check(fingerprint)

    def confirm(self, fingerprint: dict[str, Any]) -> Ledger | None:
        """Check once more, right before the first write, with all fields of the fingerprint; see `take`.

        Returns:
            The ledger of the run to resume; None where the job starts over.
        """
        with self.storage_errors():
            self._refuse_existing()  # a program that knows no lock may have made it
            self._had_output = self._paths.output.exists()
            return self._check(fingerprint)

    def refuse_late_output(self) -> None:
        """Raise OutputError if another program has made the output since `confirm`."""
        if self._paths.output.exists() and not self._had_output and not self._config.overwrite:
            raise OutputError(
                f"--output {self._paths.output} has been made by another program while this job ran. All rows of this "
                f"job are kept in {self._paths.partial}: move the other file away, and run the same command again"
            )

    def lacks_only_its_report(self) -> bool:
        """Return whether a job died after it had given the output its name, but before its last record."""
        paths = self._paths
        if not paths.output.exists() or paths.partial.exists() or read_status(paths.folder) == "whole":
            return False
        return self._is_complete()

    def release(self) -> None:
        """Release the output for the next job; leave no empty run folder behind."""
        self._lock.release()
        if self._made_folder:
            with suppress(OSError):  # it holds records
                self._paths.folder.rmdir()

    @contextmanager
    def storage_errors(self) -> Iterator[None]:
        """Convert OSErrors to OutputErrors."""
        try:
            yield
        except OSError as error:
            raise OutputError(f"{error.filename or self._paths.folder}: {error.strerror or error}") from error

    def _check(self, fingerprint: dict[str, Any]) -> Ledger | None:
        """Return the ledger of the run to resume, if there is one that is not empty or is of this kind.

        Raises:
            InputError: it is of another kind.
        """
        if self.starts_over:
            return None
        ledger = Ledger(self._paths.folder)
        differences = ledger.differences(fingerprint) if ledger.is_empty else ""
        if not differences:
            ledger.check(fingerprint)
            return ledger
        self.starts_over = True
        tell(f"runner: starting over: the earlier job has computed no rows, and differs in {differences}")
        return None

    def _refuse_existing(self) -> None:
        output = self._paths.output
        if self._config.overwrite or self.lacks_only_its_report():
            return
        if output.exists() and not self._is_finishing():
            raise OutputError(f"--output {output} exists already; --overwrite replaces it once the new one is complete")
        if self._remote and self._remote.exists():
            raise OutputError(f"--output {self._config.output} exists already; --overwrite replaces it")

    def _is_complete(self) -> bool:
        """Return whether the ledger has every row; not where it is damaged, which is reported when it is needed."""
        try:
            return Ledger(self._paths.folder).is_complete
        except InputError:
            return False

    def _is_finishing(self) -> bool:
        """Return whether a job died after it had given the output its name, with the partial file still there."""
        paths = self._paths
        if not paths.partial.is_file() or read_status(paths.folder) == "whole" or not self._is_complete():
            return False
        manifest = read_record(paths.folder / "manifest.json") or {}
        with self.storage_errors():
            return manifest.get("file_checksum") == path_checksum(str(paths.output))
