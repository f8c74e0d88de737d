"""`python -m runner watch OUTPUT`: how far a running job is, seen from any host that sees its run folder."""

import contextlib
import time

from runner.explain import explain
from runner.ledger import Ledger, run_folder
from runner.lock import OutputLock
from runner.progress import Progress

_PAUSE_SECONDS = 0.5  # and ten times what a look takes: the ledger of a large job is long


def follow(output: str) -> str:
    """Show the progress of a job until it ends or ^C is pressed.

    Returns:
        What has become of it, as `explain` says it.

    Raises:
        InputError: there is nothing to watch.
    """
    folder = run_folder(output)
    lock, progress, seen_rows = OutputLock(folder, output), None, 0
    with contextlib.suppress(KeyboardInterrupt):
        while folder.is_dir() and lock.is_held():
            began = time.monotonic()
            ledger = Ledger(folder)
            done_rows = sum(commit.stop - commit.start for commit in ledger.commits.values())
            if progress is None and ledger.fingerprint and ledger.jobs:
                job = ledger.jobs[-1]
                where = f"{job['world_size']} ranks under {job['launcher']}, since {job['started']}"
                progress, seen_rows = Progress(ledger.fingerprint["num_rows"], done_rows, where), done_rows
            elif progress is not None:
                progress.add(done_rows - seen_rows)
                seen_rows = done_rows
            time.sleep(_PAUSE_SECONDS + 10 * (time.monotonic() - began))
    if progress is not None:
        progress.close()
    return explain(output)
