"""Explanation of a job, `hvd-runner explain OUTPUT`: how it ended, what is safe, and what to type next.

The records may come from a killed job, be damaged, or be of another version: what cannot be read is ignored or
reported.
"""

import math
import os
import time
import tomllib
from pathlib import Path
from typing import Any

from runner.core.errors import EXIT_STOPPED, InputError, OutputError
from runner.core.text import byte_size, plural
from runner.core.urls import is_url, local_name
from runner.host.command_line import shown_command
from runner.records.failure import read_failure
from runner.records.ledger import Ledger, run_folder
from runner.records.lock import OutputLock
from runner.telemetry.report import read_record, read_report, read_status
from runner.telemetry.status_text import ranks_under

_FIX = {
    64: "Fix the launch or the options that it names.",
    65: "Fix the data, the model or the weights that it names; --on-error quarantine sets bad rows aside and goes on, "
    "up to --max-bad of them.",
    70: "If it names a host, exclude that host; if it is a bug of the runner, report it.",
    73: "Free space, or repair the storage.",
    EXIT_STOPPED: "",
}
_KILLED = (
    "Its processes were killed: out of memory, by the scheduler at the end of the job's time or by scancel, or their "
    "host is down. The job's log and the scheduler ({scheduler}, dmesg) may know. If it ran out of memory: a smaller "
    "--batch-size, fewer ranks per host, --share-weights, a larger --model-parallel."
)
_RECORDS = ("report.json", "failure.json", "status.json", "timeline.json")
_LITTLE_BYTES = 1 << 20  # too little room for a chunk, and for a failure record
_MOST_JOBS = 5  # of the history


def explain(output: str) -> str:
    """Return a few lines in plain words about a job.

    Raises:
        InputError: there is no record of a job.
    """
    output = _meant(output)
    folder = run_folder(output)
    if not folder.is_dir():
        there = "exists, but has no records" if Path(output).exists() else "does not exist, nor do its records"
        raise InputError(
            f"{output} {there}: {folder} is missing. Is it the --output of a job, and this its folder? A job that ends "
            "before its model has computed a first row leaves none: see its log"
        )
    if _is_complete(output, folder):
        return _complete(output, folder)
    try:
        OutputLock(folder, output).refuse_if_held()
    except OutputError as held:
        return "\n".join([held.message + ".", _progress(Ledger(folder))])
    if _is_complete(output, folder):  # check again: finding whether a job is at work takes some seconds
        return _complete(output, folder)
    report = read_report(folder) or {}
    ledger = Ledger(folder)
    if ledger.fingerprint is None:
        if not any((folder / name).exists() for name in ("config.toml", "lock", *_RECORDS)):
            raise InputError(f"{folder} holds no record of a job: it has no ledger.jsonl. See its log")
        return f"No job got as far as its first chunk. {_outcome(folder, ledger, report)}"
    return "\n".join([_outcome(folder, ledger, report), *_damaged(folder), *_history(ledger), *_next(output, ledger)])


def _meant(output: str) -> str:
    """Return the output that is meant, if `output` names its run folder or partial file."""
    for suffix in (".run", ".partial"):
        stem = output.rstrip("/").removesuffix(suffix)
        if output.rstrip("/").endswith(suffix) and not run_folder(output).is_dir() and run_folder(stem).is_dir():
            return stem
    return output


def _is_complete(output: str, folder: Path) -> bool:
    return read_status(folder) == "whole" and (is_url(output) or Path(output).exists())


def _complete(output: str, folder: Path) -> str:
    report = read_report(folder) or {}
    try:
        num_jobs = len(Ledger(folder).jobs)
    except InputError:  # its first line is damaged, which no longer matters
        num_jobs = 1
    jobs = f" It took {plural(num_jobs, 'job')}." if num_jobs > 1 else ""
    bad = _number(report.get("quarantined_rows"))
    set_aside = f" In quarantine: {plural(bad, 'row')}, listed in {folder}/quarantine.jsonl." if bad else ""
    outcome = f"{output} is complete: {plural(_number(report.get('num_rows')), 'row')}.{jobs}{set_aside}"
    return "\n".join([outcome, *_damaged(folder), f"Check it: hvd-runner verify {output}"])


def _outcome(folder: Path, ledger: Ledger, report: dict[str, Any]) -> str:
    job = ledger.jobs[-1] if ledger.jobs else {}
    ranks = ranks_under(job.get("world_size"), job.get("launcher"))
    which = f"The last job (started {job.get('started', '?')}, {ranks})" if job else "The last job"
    if failure := read_failure(folder):
        where = f" on {failure.get('who')}" if failure.get("who") else ""
        how = "was stopped" if failure.get("exit_code") == EXIT_STOPPED else "ended"
        code = _number(failure.get("exit_code"))
        fix = _FIX.get(code, _FIX[70]) + (f" {_storage_problem(folder)}" if code == OutputError.exit_code else "")
        return (
            f"{which} {how} at {failure.get('time')} with an error{where}:\n  {failure.get('message')}\n{fix}".strip()
        )
    if report.get("status") == "stopped":
        return f"{which} stopped on purpose, by {report.get('stopped_by')}."
    if report.get("status") == "whole":
        return f"{which} completed its output, which was moved or deleted since."
    signs = " ".join(filter(None, (_signs_of_life(folder, ledger), _storage_problem(folder))))
    number = job.get("scheduler_job")
    ask = f"sacct -j {number}, qstat -xf {number} or bhist -l {number}" if number else "sacct -j JOB"
    return "\n".join(filter(None, [f"{which} ended without a record of it. {_KILLED.format(scheduler=ask)}", signs]))


def _signs_of_life(folder: Path, ledger: Ledger) -> str:
    """Return the known facts about the end of a job that left no record of it."""
    job = ledger.jobs[-1] if ledger.jobs else {}
    status = read_record(folder / "status.json") or {}
    signs = []
    last = ledger.latest
    epoch = _number(job.get("epoch"))
    if host := job.get("host"):
        signs.append(f"Its rank 0 was on {host}.")
    if memory := job.get("memory"):
        signs.append(f"Memory there: {memory}.")
    if epoch and _number(status.get("time")) >= epoch:
        signs.append(f"Its last sign of life was at {_clock(_number(status.get('time')))}.")
        if stragglers := status.get("stragglers"):
            signs.append(f"Slow or silent then: rank {', '.join(map(str, _list(stragglers)))}.")
    if last and epoch and _number(last.began):
        ended = epoch + _number(last.began) + _number(last.seconds)
        signs.append(f"The last chunk that was recorded was computed by rank {last.rank} at {_clock(ended)}.")
    return " ".join(signs)


def _storage_problem(folder: Path) -> str:
    """Return what is wrong with the storage, if a job may have failed to write and to report because of it."""
    state = os.statvfs(folder)
    if state.f_flag & os.ST_RDONLY:
        return f"The file system of {folder} is read-only now: that may have ended the job. Repair it first."
    free_bytes = state.f_bavail * state.f_frsize
    if free_bytes < _LITTLE_BYTES:
        left = byte_size(free_bytes)
        return f"The file system of {folder} has {left} left: that may have ended the job. Free space first."
    return ""


def _history(ledger: Ledger) -> list[str]:
    """Return how the jobs before the last one ended, as lines."""
    lines = []
    for job, next_job in list(zip(ledger.jobs, ledger.jobs[1:], strict=False))[-_MOST_JOBS:]:
        before = next_job.get("before")
        end = before if isinstance(before, dict) else {}
        details = ": ".join(str(end[name]).partition("\n")[0] for name in ("who", "message") if end.get(name))
        lines.append(
            f"  {job.get('started', '?')}, {_ranks_of(job)}: {end.get('how', 'unknown')}"
            + (f" ({details})" if details else "")
        )
    return ["Jobs before it:", *lines] if lines else []


def _next(output: str, ledger: Ledger) -> list[str]:
    """Return which rows are safe, and what to type, as lines."""
    folder, partial = run_folder(output), Path(f"{local_name(output)}.partial")
    job = ledger.jobs[-1] if ledger.jobs else {}
    started_by = shown_command(str(job.get("launcher_command") or job.get("command") or ""))
    again = [f"It was started by:\n  {started_by}"] if started_by else []
    if problem := _toml_problem(folder / "config.toml"):
        again.insert(0, f"{folder}/config.toml {problem}: give the same command as before.")
    else:
        again.insert(0, f"  hvd-runner predict --config {folder}/config.toml")
    if not partial.exists() and Path(output).exists() and ledger.is_complete:
        last = f"{output} has all its rows, but its last record is missing."
        return [f"{last} {_progress(ledger)}", "Next: the same command checks and finishes it:", *again]
    if not partial.exists():
        lost = f"Nothing is safe: {partial}, which held the rows so far, is missing."
        return [lost, "Next: the same command, which starts over:", *again]
    earlier = [f"{output} is that of an earlier run: it is replaced when the new one is complete."]
    return [
        _progress(ledger),
        *(earlier if Path(output).exists() else []),
        f"Next: the same command, under the same launcher or another, on {_ranks(job)}, resumes from there:",
        *again,
    ]


def _ranks_of(job: dict[str, Any]) -> str:
    world_size = job.get("world_size")
    return plural(world_size, "rank") if isinstance(world_size, int) else "? ranks"


def _ranks(job: dict[str, Any]) -> str:
    size = job.get("model_parallel", 1)
    return f"any number of ranks that {size} divides" if size != 1 else "any number of ranks"


def _progress(ledger: Ledger) -> str:
    num_rows = _number((ledger.fingerprint or {}).get("num_rows"))
    done = sum(commit.stop - commit.start for commit in ledger.commits.values())
    if not done:
        return f"Nothing is recorded yet of {plural(num_rows, 'row')}."
    share = f" ({int(100 * done / num_rows)}%)" if num_rows else ""  # rounded down: 100% means all
    return (
        f"Safe: {done:,} of {plural(num_rows, 'row')}{share}, in {plural(len(ledger.commits), 'chunk')}. They are "
        "checked again before they are trusted."
    )


def _damaged(folder: Path) -> list[str]:
    """Return a line that names the unreadable records; none if all can be read."""
    names = [name for name in _RECORDS if (folder / name).exists() and not read_record(folder / name)]
    return [f"Damaged and ignored: {', '.join(f'{folder}/{name}' for name in names)}."] if names else []


def _toml_problem(path: Path) -> str:
    try:
        tomllib.loads(path.read_text())
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError):
        return "is damaged"
    return ""


def _number(value: Any) -> Any:
    """Return a value that should be a number; 0 if it is none."""
    return value if isinstance(value, int | float) and math.isfinite(value) else 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _clock(epoch: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
    except (OSError, OverflowError, ValueError):
        return "an unknown time"
