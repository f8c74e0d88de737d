"""All that a run folder holds, whatever state it is in: nothing here raises because of what a file holds or lacks."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from runner.core.errors import InputError, RunnerError
from runner.records.ledger import run_folder
from runner.records.lock import OutputLock
from runner.reports.pages.values import number

_MOST_RANKS = 100_000  # what a damaged line may claim
_MOST_HASTY_BYTES = 1 << 20  # some 3000 chunks, read in some 30 ms
_NOT_READ = "is there, but cannot be read"


@dataclass
class Chunk:
    """One committed chunk; `began` in seconds since the start of its job, NaN where the ledger does not tell."""

    rank: int
    rows: int
    seconds: float
    began: float
    bad: int


@dataclass
class Job:
    """One job of an output, as the ledger tells of it.

    Attributes:
        said: what it said of itself.
        chunks: those that it committed, in that order.
    """

    said: dict[str, Any]
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def epoch(self) -> float:
        """When it started, in seconds since 1970; NaN where that is not known."""
        found = number(self.said.get("epoch"))
        if found == found:
            return found
        try:
            return time.mktime(time.strptime(str(self.said.get("started")), "%Y-%m-%d %H:%M:%S"))
        except (ValueError, OverflowError):
            return float("nan")

    @property
    def ranks(self) -> int:
        """How many it had, as far as that is known."""
        said = number(self.said.get("world_size"))
        return max([int(said) if 0 < said < _MOST_RANKS else 0, *(chunk.rank + 1 for chunk in self.chunks)])

    @property
    def group_size(self) -> int:
        """How many of them hold one replica of the model together."""
        return _group_size(self.said.get("model_parallel"), self.ranks)


class Record:
    """Of one output.

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
        folder, self._is_hasty = Path(given), is_hasty
        if folder.name.endswith(".run") and folder.is_dir():
            self.folder, self.output = folder, str(given).rstrip("/").removesuffix(".run")
        else:
            self.folder, self.output = run_folder(given), given
            if not self.folder.is_dir():
                _explain(given)
                raise InputError(f"{self.folder} is not a folder")
        self.notes: list[str] = []
        self.report, self.timeline = self._read("report.json"), self._read("timeline.json")
        self.failure, self.status = self._read("failure.json"), self._read("status.json")
        options = self.report.get("config")
        self.config: dict[str, Any] = options if isinstance(options, dict) and options else self._read_config()
        if self.report.get("status") == "whole" and "://" not in str(self.report.get("output")):
            self._note(not Path(self.output).exists(), f"{self.output} itself is not there any more.")
        if self.report.get("status") in ("whole", "stopped"):
            is_lost = not (self.folder / "timeline.json").exists()
            self._note(is_lost, "Without timeline.json there is less to show of what each rank did when.")

    @cached_property
    def ended(self) -> tuple[str, str]:
        """How the last job has ended: "whole", "stopped", "failed", "killed", "running" or "" for no job, and what
        `explain` says of it. It may take some seconds to tell whether a job runs, so it is asked first."""
        status = str(self.report.get("status", ""))
        if status in ("whole", "stopped") and not self.failure:
            return status, ""
        with ThreadPoolExecutor(1) as pool:  # both watch the lock of another host for a while
            is_held = pool.submit(OutputLock(self.folder, self.output).is_held)
            words = _explained(self.output)
            try:
                if is_held.result():
                    return "running", words
            except Exception:
                self.notes.append(f"lock {_NOT_READ}.")
        if self.failure:
            return "failed", words
        return ("killed" if self._ledger or self.status else ""), words

    @cached_property
    def ranks(self) -> list[dict[str, Any]]:
        """The ranks of the report; empty where there is none."""
        found = self.report.get("ranks")
        return [rank for rank in found if isinstance(rank, dict)] if isinstance(found, list) else []

    @cached_property
    def group_size(self) -> int:
        """How many ranks hold one replica of the model together; 1 where each holds its own."""
        return _group_size(self.config.get("model-parallel"), len(self.ranks))

    @property
    def leaders(self) -> list[dict[str, Any]]:
        """The ranks of the report that have rows: of each group the first."""
        return self.ranks[:: self.group_size]

    @cached_property
    def _ledger(self) -> bytes:
        path = self.folder / "ledger.jsonl"
        if self._is_hasty and path.exists() and path.stat().st_size > _MOST_HASTY_BYTES:
            again = f"python -m runner report {self.output} shows all jobs of this output; its ledger is long."
            self._note(number(self.report.get("resumed_rows")) > 0, again)
            return b""
        return self._read_bytes("ledger.jsonl")

    @property
    def num_jobs(self) -> int:
        """How many have worked on the output; quick however long the ledger is."""
        return self._ledger.count(b'\n{"job"')

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """The first line of the ledger; empty where it cannot be read."""
        return next(_records(self._ledger.split(b"\n", 1)[:1]), {})

    @property
    def jobs(self) -> list[Job]:
        """All jobs of the ledger, with the chunks of each."""
        return self._parsed[0]

    @property
    def committed(self) -> set[int]:
        """The chunks that are done."""
        return self._parsed[1]

    @cached_property
    def _parsed(self) -> tuple[list[Job], set[int]]:
        jobs: list[Job] = []
        committed: set[int] = set()
        for line in _records(self._ledger.splitlines()[1:]):
            if isinstance(line.get("job"), dict):
                jobs.append(Job(line["job"]))
            elif isinstance(line.get("withdrawn"), list):
                committed.difference_update(index for index in line["withdrawn"] if isinstance(index, int))
            elif jobs and "chunk" in line:
                rank, rows = number(line.get("rank")), number(line.get("stop")) - number(line.get("start"))
                if 0 <= rank < _MOST_RANKS and rows >= 0 and isinstance(line["chunk"], int):
                    committed.add(line["chunk"])
                    bad = line.get("bad")
                    times = number(line.get("seconds")), number(line.get("began"))
                    chunk = Chunk(int(rank), int(rows), *times, len(bad) if isinstance(bad, list) else 0)
                    jobs[-1].chunks.append(chunk)
        return jobs, committed

    def _read(self, name: str) -> dict[str, Any]:
        raw = self._read_bytes(name)
        try:
            found = json.loads(raw) if raw else {}
        except (ValueError, RecursionError):
            found = None
        is_there = (self.folder / name).exists()
        self._note(is_there and (not raw or not isinstance(found, dict)), f"{name} {_NOT_READ}: it is damaged.")
        return found if isinstance(found, dict) else {}

    def _read_config(self) -> dict[str, Any]:
        import tomllib

        raw = self._read_bytes("config.toml")
        try:
            return tomllib.loads(raw.decode())
        except (ValueError, RecursionError):
            self.notes.append(f"config.toml {_NOT_READ}: it is damaged.")
            return {}

    def _read_bytes(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            self._note(name in ("ledger.jsonl", "config.toml"), f"{name} is missing.")
        except OSError as error:
            self.notes.append(f"{name} {_NOT_READ}: {error.strerror}.")
        return b""

    def _note(self, holds: bool, what: str) -> None:
        if holds:
            self.notes.append(what)


def _group_size(said: Any, ranks: int) -> int:
    found = number(said)
    return int(found) if found > 1 and found.is_integer() and ranks % found == 0 else 1


def _records(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def _explained(output: str) -> str:
    try:
        return _explain(output)
    except RunnerError as error:
        return error.message
    except Exception as error:  # damage that nobody has thought of
        return f"The records of {output} are damaged ({type(error).__name__})."


def _explain(output: str) -> str:
    from runner.records.explain import explain  # a job that has ended well has no need of it

    return explain(output)
