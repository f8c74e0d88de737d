"""`python -m runner explain OUTPUT`: what has become of a job, what is safe, and what to type next."""

from pathlib import Path
from typing import Any

from runner.errors import InputError, OutputError
from runner.failure import read_failure
from runner.ledger import Ledger, run_folder
from runner.lock import OutputLock
from runner.report import read_report

_MEND = {
    64: "Mend the launch or the options that it names.",
    65: "Mend the data, the model or the weights that it names; --on-error quarantine sets bad rows aside and goes on.",
    70: "If it names a host, leave that host out; if it is a bug of the runner, tell its makers.",
    73: "Make room, or mend the storage.",
}
_KILLED = (
    "Its processes were killed: for lack of memory, by the scheduler at the end of its time or by scancel, or their "
    "host is gone. The job's log and the scheduler (sacct -j JOB, dmesg) may know. For lack of memory: a smaller "
    "--batch-size, fewer ranks on a host, --share-weights."
)


def explain(output: str) -> str:
    """A few lines in plain words.

    Raises:
        InputError: there is nothing to tell of.
    """
    folder = run_folder(output)
    if not folder.is_dir():
        there = (
            "is there, but no record of how it came about" if Path(output).exists() else "is not there, nor a record"
        )
        raise InputError(f"{output} {there}: {folder} is missing. Is it the --output of a job, and this its folder?")
    ledger = Ledger(folder)
    report = read_report(folder) or {}
    if Path(output).exists() and report.get("status") == "whole":
        return "\n".join([_whole(output, ledger, report), f"Check it: python -m runner verify {output}"])
    try:
        OutputLock(folder, output).refuse_if_held()
    except OutputError as held:
        return "\n".join([held.message + ".", _progress(ledger)])
    if ledger.fingerprint is None:
        return f"No job has come as far as its first chunk. {_last_word(folder, ledger, report)}"
    return "\n".join(
        [
            _last_word(folder, ledger, report),
            _progress(ledger),
            f"Next: the same command, under the same launcher or another, on any number of ranks, goes on from there:\n"
            f"  python -m runner predict --config {folder}/config.toml",
        ]
    )


def _whole(output: str, ledger: Ledger, report: dict[str, Any]) -> str:
    jobs = f" It took {len(ledger.jobs)} jobs." if len(ledger.jobs) > 1 else ""
    bad = report.get("quarantined_rows", 0)
    set_aside = f" {bad:,} rows were set aside: {run_folder(output)}/quarantine.jsonl names them." if bad else ""
    return f"{output} is whole: {report.get('num_rows', 0):,} rows.{jobs}{set_aside}"


def _last_word(folder: Path, ledger: Ledger, report: dict[str, Any]) -> str:
    job = ledger.jobs[-1] if ledger.jobs else {}
    ranks = f"{job.get('world_size', '?')} ranks under {job.get('launcher', '?')}"
    which = f"The last job (of {job.get('started', '?')}, {ranks})" if job else "The last job"
    if failure := read_failure(folder):
        where = f" on {failure.get('who')}" if failure.get("who") else ""
        mend = _MEND.get(failure.get("exit_code", 70), "")
        return f"{which} ended at {failure.get('time')} with an error{where}:\n  {failure.get('message')}\n{mend}"
    if report.get("status") == "stopped":
        return f"{which} stopped on purpose, by {report.get('stopped_by')}."
    return f"{which} ended without a last word. {_KILLED}"


def _progress(ledger: Ledger) -> str:
    num_rows = (ledger.fingerprint or {}).get("num_rows", 0)
    done = sum(commit.stop - commit.start for commit in ledger.commits.values())
    share = f" ({done / num_rows:.0%})" if num_rows else ""
    return (
        f"Safe: {done:,} of {num_rows:,} rows{share}, in {len(ledger.commits):,} chunks. They are checked again before "
        "they are trusted."
    )
