"""All that a run folder holds, whatever state it is in: nothing here raises because of what a file holds or lacks."""

import json
import math
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from runner.chunks.commit import Commit
from runner.core.errors import InputError, RunnerError
from runner.records.ledger import Ledger, run_folder
from runner.records.lock import OutputLock
from runner.reports.pages.values import Fields, number, objects
from runner.telemetry.timeline import EARLIER_NAMES

_MOST_RANKS = 100_000  # what a damaged line may claim
_MOST_HASTY_BYTES = 1 << 20  # some 3000 chunks, read in some 30 ms
_NOT_READ = "is there, but cannot be read"


class Job:
    """One job of an output, as the ledger tells of it.

    Attributes:
        start: what it wrote of itself when it started.
        epoch: when that was, in seconds since 1970; NaN where that is not known.
        num_ranks, group_size: how many ranks it had, and how many of them held one replica of the model together.
        commits: its chunks, in the order in which they were committed.
        timed: those with a known time.
        num_rows, num_bad: rows of these, and how many of them failed.
    """

    def __init__(self, start: Fields, commits: list[Commit]) -> None:
        self.start = start
        self.epoch = number(start["epoch"])
        size = number(start["world_size"])
        self.num_ranks = int(size) if 1 <= size < _MOST_RANKS else 1
        self.group_size = _group_size(start["model_parallel"], self.num_ranks)
        self.commits = [commit for commit in commits if 0 <= commit.rank < self.num_ranks]
        self.timed = [commit for commit in self.commits if commit.began > 0]
        self.num_rows = sum(commit.rows for commit in self.commits)
        self.num_bad = sum(len(commit.bad) for commit in self.commits)


class Record:
    """All records of one output.

    Args:
        given: the output, or its run folder.
        is_hasty: a long ledger is left alone, as a job waits for its end.

    Attributes:
        folder: the run folder.
        output: the path beside it.
        report, timeline, failure, status: what the JSON files hold; empty where they hold nothing.
        config: the options, of the report or else of `config.toml`.
        notes: files that are damaged or lacking, in words.

    Raises:
        InputError: there is no run folder.
    """

    def __init__(self, given: str, is_hasty: bool = False) -> None:
        self.output = given
        self.folder = run_folder(given)
        self._is_hasty = is_hasty
        if given.rstrip("/").endswith(".run") and Path(given).is_dir():
            self.output, self.folder = given.rstrip("/").removesuffix(".run"), Path(given)
        elif not self.folder.is_dir():
            from runner.records.explain import explain  # knows best what there is instead

            explain(given)
            raise InputError(f"{self.folder} is not a folder")
        self.notes: list[str] = []
        names = ("report.json", "timeline.json", "failure.json", "status.json")
        self.report, self.timeline, self.failure, self.status = map(self._read, names)
        self.config = self.report.fields("config") or self._read("config.toml", tomllib.loads)
        status, is_url = self.report["status"], "://" in str(self.report["output"])
        if status == "whole" and not is_url and not Path(self.output).exists():
            self.notes.append(f"{self.output} itself is not there any more.")
        if status in ("whole", "stopped") and not (self.folder / "timeline.json").exists():
            self.notes.append("Without timeline.json there is less to show of what each rank did when.")

    @cached_property
    def ended(self) -> tuple[str, str]:
        """How the last job has ended: a key of `summary.STATES`, and what `explain` says of it. It may take some
        seconds to tell whether a job runs."""
        status = self.report["status"]
        if status in ("whole", "stopped") and not self.failure:
            return status, ""
        with ThreadPoolExecutor(1) as pool:  # both watch the lock of another host for a while
            is_held = pool.submit(OutputLock(self.folder, self.output).is_held)
            words = _explained(self.output)
        if is_held.exception():
            self.notes.append(f"lock {_NOT_READ}.")
        elif is_held.result():
            return "running", words
        was_there = self.status or (self.folder / "ledger.jsonl").exists()
        return ("failed" if self.failure else "killed" if was_there else ""), words

    @cached_property
    def ranks(self) -> list[Fields]:
        """The ranks of the report, each with its name and the seconds of its phases beside its other figures."""
        return [
            Fields(rank | rank.fields("seconds"), name=f"rank {rank['rank']} on {rank['host']}")
            for rank in objects(self.report["ranks"])
        ]

    @cached_property
    def group_size(self) -> int:
        """How many ranks hold one replica of the model together; 1 where each holds its own."""
        return _group_size(self.config["model-parallel"], len(self.ranks))

    @property
    def noun(self) -> str:
        """Return the word for whatever computes batches: a rank, or a group of ranks."""
        return "rank" if self.group_size == 1 else "group"

    @property
    def leaders(self) -> list[Fields]:
        """The ranks of the report that have rows: of each group the first, by the name of the group."""
        each = self.group_size
        if each == 1:
            return self.ranks
        return [
            Fields(self.ranks[first], name=f"group {first // each} (ranks {first}-{first + each - 1})")
            for first in range(0, len(self.ranks), each)
        ]

    @property
    def num_hosts(self) -> int:
        """Return on how many hosts the ranks were."""
        return len({str(rank["host"]) for rank in self.ranks})

    @cached_property
    def ledger(self) -> Ledger | None:
        """The ledger; None where it is missing, damaged at its start, or too long for a job that waits."""
        path = self.folder / "ledger.jsonl"
        if not path.exists():
            self.notes.append("ledger.jsonl is missing.")
            return None
        if self._is_hasty and path.stat().st_size > _MOST_HASTY_BYTES:
            if number(self.report["resumed_rows"]) > 0:
                again = f"hvd-runner report {self.output} shows all jobs of this output"
                self.notes.append(f"{again}; its ledger is long.")
            return None
        try:
            return Ledger(self.folder)
        except RunnerError as error:
            self.notes.append(f"ledger.jsonl {_NOT_READ}: {error.message}.")
            return None

    @cached_property
    def jobs(self) -> list[Job]:
        """All jobs of the ledger, with the chunks of each."""
        starts, commits = (self.ledger.jobs, self.ledger.history) if self.ledger else ([], [])
        return [Job(*each) for each in zip(map(Fields, starts), commits, strict=True)]

    @property
    def done_rows(self) -> tuple[float, float]:
        """Return the rows that are done, and of how many; NaN where that is not known."""
        report, ledger = self.report, self.ledger
        if report["status"] in ("whole", "stopped"):
            rows = number(report["num_rows"])
            return rows - number(report["remaining_rows"]), rows
        if ledger is None or ledger.fingerprint is None:
            return math.nan, number(self.status["num_rows"])
        done = sum(commit.rows for commit in ledger.commits.values())
        return done, number(ledger.fingerprint.get("num_rows"))

    @cached_property
    def num_bad(self) -> float:
        """How many rows were set aside; NaN where that is not known."""
        if self.report["status"] in ("whole", "stopped"):
            return number(self.report["quarantined_rows"])
        return sum(len(commit.bad) for commit in self.ledger.commits.values()) if self.ledger else math.nan

    @property
    def lists_bad_rows(self) -> str:
        """The file that has all rows that were set aside: a job that failed leaves them in the ledger."""
        return "quarantine.jsonl" if self.report["status"] in ("whole", "stopped") else "ledger.jsonl"

    def bad_rows(self, most: int) -> list[Fields]:
        """Return the first of the rows that were set aside."""
        if self.lists_bad_rows == "ledger.jsonl":
            chunks = sorted(self.ledger.commits.items()) if self.ledger else []
            return [Fields(bad) for bad in islice((bad for _, commit in chunks for bad in commit.bad), most)]
        try:
            with (self.folder / self.lists_bad_rows).open() as file:
                return [Fields(json.loads(line)) for line in islice(file, most)]
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            self.notes.append(f"{self.lists_bad_rows} is missing or damaged.")
            return []

    def _read(self, name: str, parse: Callable[[str], dict[str, Any]] | None = None) -> Fields:
        try:
            text = (self.folder / name).read_text()
            for earlier, current in EARLIER_NAMES.items():
                text = text.replace(f'"{earlier}"', f'"{current}"')
            content = parse(text) if parse else json.loads(text, object_hook=Fields)
            if isinstance(content, dict):
                return Fields(content)
            reason = "it is damaged"
        except FileNotFoundError:
            if parse:
                self.notes.append(f"{name} is missing.")
            return Fields()
        except OSError as error:
            reason = str(error.strerror)
        except (ValueError, RecursionError):
            reason = "it is damaged"
        self.notes.append(f"{name} {_NOT_READ}: {reason}.")
        return Fields()


def _group_size(value: Any, ranks: int) -> int:
    size = number(value)
    return int(size) if size > 1 and size.is_integer() and ranks % size == 0 else 1


def _explained(output: str) -> str:
    from runner.records.explain import explain  # a job that has ended well has no need of it

    try:
        return explain(output)
    except RunnerError as error:
        return error.message
    except Exception as error:  # damage that nobody has thought of
        return f"The records of {output} are damaged ({type(error).__name__})."
