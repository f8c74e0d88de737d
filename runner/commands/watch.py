"""`python -m runner watch OUTPUT`: how far a running job is, seen from any host that sees its run folder."""

import contextlib
import dataclasses
import sys
import time
from pathlib import Path

from runner.core.errors import RunnerError
from runner.records.explain import explain
from runner.records.ledger import Ledger, run_folder
from runner.records.lock import OutputLock
from runner.telemetry.progress import STATUS, View, find_view
from runner.telemetry.status import Status, parse_status
from runner.telemetry.status_text import duration, first_line
from runner.telemetry.tally import Start, Tally

_PAUSE_SECONDS = 0.5  # and ten times what a look takes: the ledger of a large job is long
_OLD_SECONDS = 15.0  # a status is renewed every two seconds


def follow(output: str) -> str:
    """Show the progress of a job until it ends or ^C is pressed.

    Returns:
        What has become of it, as `explain` says it.

    Raises:
        InputError: there is nothing to watch.
    """
    folder = run_folder(output)
    lock, view, status = OutputLock(folder, output), None, None
    look = _Look(folder)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            while folder.is_dir() and lock.is_held():
                began = time.monotonic()
                status = look.status()
                if status is not None:
                    view = view or _begin(status)
                    view.show(status)
                look.warn_if_old()
                time.sleep(_PAUSE_SECONDS + 10 * (time.monotonic() - began))
        finally:
            if view is not None:
                view.close(look.status())
    return explain(output)


def _begin(status: Status) -> View:
    ranks = "1 rank" if status.world_size == 1 else f"{status.world_size} ranks"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.started))
    where = f"{ranks} under {status.launcher}, since {since}"
    resumed_rows = status.resumed_rows
    print(first_line(status.num_rows, resumed_rows, where), file=sys.stderr, flush=True)
    return find_view()


class _Look:
    """What the files of a job say, one look after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tally: Tally | None = None
        self._counted: set[int] = set()  # chunks, of the ledger
        self._text, self._renewed, self._has_warned = "", time.monotonic(), False

    def status(self) -> Status | None:
        """How the job does; None where it has not come so far."""
        try:
            text = (self._folder / STATUS).read_text()
        except (OSError, ValueError):
            text = ""
        if text != self._text:
            self._text, self._renewed, self._has_warned = text, time.monotonic(), False
        old = time.monotonic() - self._renewed  # by this host's clock alone: others may go wrong
        if old < _OLD_SECONDS and (status := parse_status(text)):
            ranks = [dataclasses.replace(r, seconds_since_last=r.seconds_since_last + old) for r in status.ranks]
            return dataclasses.replace(status, ranks=ranks)
        return self._of_ledger()

    def warn_if_old(self) -> None:
        """Say so where the job lives, as its lock tells, but has not said for long how it does."""
        seconds = time.monotonic() - self._renewed
        if self._text and seconds > _OLD_SECONDS and not self._has_warned:
            self._has_warned = True
            print(
                f"runner: {self._folder / STATUS} has not been renewed for {duration(seconds)}, though the job lives: "
                "its storage may fail. From here on, what its ledger tells",
                file=sys.stderr,
                flush=True,
            )

    def _of_ledger(self) -> Status | None:
        """From the chunks alone, for a job that keeps no status."""
        try:
            ledger = Ledger(self._folder)
            if self._tally is None:
                self._tally = _begun(ledger)
                self._counted = set(ledger.commits)
            for chunk, commit in ledger.commits.items():
                if chunk not in self._counted:
                    self._counted.add(chunk)
                    self._tally.add(commit.rank, commit.stop - commit.start, commit.seconds, len(commit.bad))
        except (RunnerError, LookupError, TypeError):  # it is being begun, or damaged
            return None
        return self._tally.status()


def _begun(ledger: Ledger) -> Tally:
    """What is there already counts as an earlier job's: nobody knows here when it came."""
    bad_rows = sum(len(commit.bad) for commit in ledger.commits.values())
    done_rows = sum(commit.stop - commit.start for commit in ledger.commits.values())
    job = ledger.jobs[-1]
    start = Start(
        num_rows=(ledger.fingerprint or {})["num_rows"],
        resumed_rows=done_rows - bad_rows,
        quarantined_rows=bad_rows,
        world_size=job["world_size"],
        launcher=job["launcher"],
        where="",
        started=job.get("epoch", time.time()),
        shares=None,
        group_size=job.get("model_parallel", 1),
    )
    return Tally(start)
