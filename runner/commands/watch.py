"""`hvd-runner watch OUTPUT`: the progress of a running job, from any host that sees its run folder."""

import contextlib
import dataclasses
import sys
import time
from pathlib import Path

from runner.core.errors import RunnerError
from runner.core.text import rough_duration
from runner.records.explain import explain
from runner.records.ledger import Ledger, run_folder
from runner.records.lock import OutputLock
from runner.telemetry.progress import STATUS, View, find_view
from runner.telemetry.status import Status, parse_status
from runner.telemetry.status_text import first_line, ranks_under
from runner.telemetry.tally import Start, Tally

_PAUSE_SECONDS = 0.5  # plus ten times the duration of a look: the ledger of a large job is long
_OLD_SECONDS = 15.0  # a status is renewed every two seconds


def follow(output: str) -> str:
    """Show the progress of a job until it ends or ^C is pressed.

    Returns:
        The outcome of the job, in the words of `explain`.

    Raises:
        InputError: there is nothing to watch.
    """
    folder = run_folder(output)
    lock = OutputLock(folder, output)
    view = None
    status = None
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
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.started))
    where = f"{ranks_under(status.world_size, status.launcher)}, since {since}"
    resumed_rows = status.resumed_rows
    print(first_line(status.num_rows, resumed_rows, where), file=sys.stderr, flush=True)
    return find_view()


class _Look:
    """A reader of a job's status and ledger files, called repeatedly."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tally: Tally | None = None
        self._counted: set[int] = set()  # chunks of the ledger
        self._text = ""
        self._renewed = time.monotonic()
        self._has_warned = False

    def status(self) -> Status | None:
        """Return the status of the job; None where it has none yet."""
        try:
            text = (self._folder / STATUS).read_text()
        except (OSError, ValueError):
            text = ""
        if text != self._text:
            self._text = text
            self._renewed = time.monotonic()
            self._has_warned = False
        old = time.monotonic() - self._renewed  # by this host's clock alone: those of others may be wrong
        if old < _OLD_SECONDS and (status := parse_status(text)):
            ranks = [dataclasses.replace(r, seconds_since_last=r.seconds_since_last + old) for r in status.ranks]
            return dataclasses.replace(status, ranks=ranks)
        return self._of_ledger()

    def warn_if_old(self) -> None:
        """Warn once where the job is alive, by its lock, but has not renewed its status for long."""
        seconds = time.monotonic() - self._renewed
        if self._text and seconds > _OLD_SECONDS and not self._has_warned:
            self._has_warned = True
            print(
                f"runner: {self._folder / STATUS} has not been renewed for {rough_duration(seconds)}, although the "
                "job is alive: its storage may have failed. The progress below is that of its ledger",
                file=sys.stderr,
                flush=True,
            )

    def _of_ledger(self) -> Status | None:
        """Return the status from the chunks alone, for a job that keeps no status file."""
        try:
            ledger = Ledger(self._folder)
            if self._tally is None:
                self._tally = _begun(ledger, self._folder.name.removesuffix(".run"))
                self._counted = set(ledger.commits)
            for chunk, commit in ledger.commits.items():
                if chunk not in self._counted:
                    self._counted.add(chunk)
                    self._tally.add(commit.rank, commit.stop - commit.start, commit.seconds, len(commit.bad))
        except (RunnerError, LookupError, TypeError):  # just being created, or damaged
            return None
        return self._tally.status()


def _begun(ledger: Ledger, output: str) -> Tally:
    """Return a tally in which existing chunks count as an earlier job's: their times are unknown here."""
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
        output=output,
    )
    return Tally(start)
