"""The last word of a job that fails, `NAME.run/failure.json`, for whoever asks later what has happened."""

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
    """Keeps the error that ends a job; made by every rank.

    Args:
        output: of the job, None for none.
        world: this rank among the others.
    """

    def __init__(self, output: str | None, world: World) -> None:
        self._output, self._world = output, world
        self._folder: Path | None = None

    def begin(self) -> None:
        """The output is this job's from now on; until then another job's last word may be there."""
        self._folder = run_folder(self._output) if self._output else None

    def note(self, error: RunnerError) -> bool:
        """Keep an error; called by every rank that has it. Rank 0 keeps one that all have.

        Of several ranks that fail on their own the first is kept, as the others may have failed because of it. What
        goes wrong here is passed over: the error itself is on its way to the user.

        Returns:
            Whether this one is kept.
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
                os.link(beside, self._folder / _NAME)  # unlike a renaming, it fails where there is one
                return True
            finally:
                beside.unlink()
        return False


def last_end(folder: Path) -> dict[str, Any]:
    """How the last job in a run folder has ended, as far as it is known.

    Returns:
        `how`: "failed", "stopped", "whole", or "killed" where it has left no word; of a failure also `who`, `message`
        and `epoch`, of a stop `message`.
    """
    if failure := read_failure(folder):
        return {"how": "failed"} | {name: failure.get(name) for name in ("who", "message", "epoch")}
    report = read_report(folder) or {}
    if report.get("status") in ("stopped", "whole"):
        return {"how": report["status"], "message": str(report.get("stopped_by", ""))}
    return {"how": "killed"}


def clear_outcome(folder: Path) -> None:
    """A new job begins: what the last one said of its end is of no account any more."""
    for name in (_NAME, "report.json", "timeline.json", "report.html", "trace.json", "status.json"):
        (folder / name).unlink(missing_ok=True)


def read_failure(folder: Path) -> dict[str, Any] | None:
    """The last word of the last job; None where there is none that can be read."""
    return read_record(folder / _NAME)
