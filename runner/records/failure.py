"""Failure record of a job, `NAME.run/failure.json`: the error with which it ended, for later explanation."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from runner.core.errors import RunnerError
from runner.host.launch import World
from runner.records.ledger import run_folder
from runner.telemetry.report import read_record, read_report

_NAME = "failure.json"


class FailureRecord:
    """Failure record of a job; made by every rank.

    Args:
        output: output of the job; None for none.
        world: this rank among the others.
    """

    def __init__(self, output: str | None, world: World) -> None:
        self._output = output
        self._world = world
        self._folder: Path | None = None

    def begin(self) -> None:
        """Use the run folder from now on; until then, a record of another job may be in it."""
        self._folder = run_folder(self._output) if self._output else None

    def note(self, error: RunnerError) -> bool:
        """Record an error; called by every rank that has it. Rank 0 records one that all have.

        If several ranks fail on their own, the first is kept, as the others may have failed because of it. Errors of
        the storage are ignored here: the error itself is on its way to the user.

        Returns:
            Whether this error is the one recorded.
        """
        if self._folder is None or (error.shared and self._world.rank):
            return False
        is_own = not error.shared and self._world.world_size > 1
        words = {
            "time": time.strftime("%Y-%m-%d %H:%M:%S"),
            "epoch": time.time(),
            "who": self._world.who if is_own else error.who,
            "message": error.message,
            "details": error.details,
            "exit_code": error.exit_code,
        }
        beside = self._folder / f"{_NAME}.{self._world.rank}"
        with contextlib.suppress(OSError):
            beside.write_text(json.dumps(words) + "\n")
            try:
                os.link(beside, self._folder / _NAME)  # unlike a rename, it fails if the record exists
                return True
            finally:
                beside.unlink()
        return False


def last_end(folder: Path) -> dict[str, Any]:
    """Return how the last job in a run folder has ended, as far as it is known.

    Returns:
        `how`: "failed", "stopped", "whole", or "killed" where it has left no record; for a failure also `who`,
        `message` and `epoch`, otherwise `message`, unless killed.
    """
    if failure := read_failure(folder):
        return {"how": "failed"} | {name: failure.get(name) for name in ("who", "message", "epoch")}
    report = read_report(folder) or {}
    if report.get("status") in ("stopped", "whole"):
        return {"how": report["status"], "message": str(report.get("stopped_by", ""))}
    return {"how": "killed"}


def clear_outcome(folder: Path) -> None:
    """Remove the records of how the last job ended, because a new job begins."""
    for name in (_NAME, "report.json", "timeline.json", "report.html", "trace.json", "status.json"):
        (folder / name).unlink(missing_ok=True)


def read_failure(folder: Path) -> dict[str, Any] | None:
    """Read the failure record of the last job; None where there is none that can be read."""
    return read_record(folder / _NAME)
