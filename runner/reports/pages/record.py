"""All that a run folder holds, whatever state it is in: nothing here raises because of what a file holds or lacks."""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from runner.core.errors import InputError, RunnerError
from runner.records.ledger import run_folder
from runner.records.lock import OutputLock
from runner.reports.pages.values import Fields
from runner.telemetry.timeline import with_current_phases

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

    @property
    def ended(self) -> float:
        """When its rows were computed."""
        return self.began + self.seconds


@dataclass
class Job:
    """One job of an output, as the ledger tells of it.

    Attributes:
        start: what it wrote of itself when it started.
        chunks: those that it committed, in that order.
    """

    start: Fields
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def epoch(self) -> float:
        """When it started, in seconds since 1970; NaN where that is not known."""
        with contextlib.suppress(ValueError, OverflowError):
            if math.isnan(self.start.number("epoch")):
                return time.mktime(time.strptime(str(self.start.get("started")), "%Y-%m-%d %H:%M:%S"))
        return self.start.number("epoch")

    @property
    def ranks(self) -> int:
        """How many ranks it had, as far as that is known."""
        size = self.start.number("world_size")
        return max([int(size) if 0 < size < _MOST_RANKS else 0, *(chunk.rank + 1 for chunk in self.chunks)])

    @property
    def group_size(self) -> int:
        """How many of them hold one replica of the model together."""
        return _group_size(self.start.number("model_parallel"), self.ranks)

    @property
    def timed_chunks(self) -> list[Chunk]:
        """Chunks with a known time."""
        return [chunk for chunk in self.chunks if math.isfinite(chunk.ended) and chunk.seconds >= 0]


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
        folder, self._is_hasty = Path(given), is_hasty
        if folder.name.endswith(".run") and folder.is_dir():
            self.folder, self.output = folder, str(given).rstrip("/").removesuffix(".run")
        else:
            self.folder, self.output = run_folder(given), given
            if not self.folder.is_dir():
                from runner.records.explain import explain  # knows best what there is instead

                explain(given)
                raise InputError(f"{self.folder} is not a folder")
        self.notes: list[str] = []
        names = ("report.json", "timeline.json", "failure.json", "status.json")
        self.report, self.timeline, self.failure, self.status = map(self._read, names)
        self.config = self.report.fields("config") or self._read_config()
        status, is_url = self.report.get("status"), "://" in str(self.report.get("output"))
        is_lost = status == "whole" and not is_url and not Path(self.output).exists()
        self._note(is_lost, f"{self.output} itself is not there any more.")
        is_lost = status in ("whole", "stopped") and not (self.folder / "timeline.json").exists()
        self._note(is_lost, "Without timeline.json there is less to show of what each rank did when.")

    @cached_property
    def ended(self) -> tuple[str, str]:
        """How the last job has ended: a key of `summary.STATES`, and what `explain` says of it. It may take some
        seconds to tell whether a job runs."""
        status = str(self.report.get("status", ""))
        if status in ("whole", "stopped") and not self.failure:
            return status, ""
        with ThreadPoolExecutor(1) as pool:  # both watch the lock of another host for a while
            is_held = pool.submit(OutputLock(self.folder, self.output).is_held)
            words = _explained(self.output)
        self._note(is_held.exception() is not None, f"lock {_NOT_READ}.")
        if not is_held.exception() and is_held.result():
            return "running", words
        return ("failed" if self.failure else "killed" if self._ledger or self.status else ""), words

    @cached_property
    def ranks(self) -> list[Fields]:
        """The ranks of the report; empty where there is none."""
        return self.report.objects("ranks")

    @cached_property
    def group_size(self) -> int:
        """How many ranks hold one replica of the model together; 1 where each holds its own."""
        return _group_size(self.config.number("model-parallel"), len(self.ranks))

    @property
    def noun(self) -> str:
        """Return the word for whatever computes batches: a rank, or a group of ranks."""
        return "rank" if self.group_size == 1 else "group"

    @property
    def leaders(self) -> list[Fields]:
        """The ranks of the report that have rows: of each group the first."""
        return self.ranks[:: self.group_size]

    @cached_property
    def _ledger(self) -> bytes:
        path = self.folder / "ledger.jsonl"
        if self._is_hasty and path.exists() and path.stat().st_size > _MOST_HASTY_BYTES:
            again = f"python -m runner report {self.output} shows all jobs of this output; its ledger is long."
            self._note(self.report.number("resumed_rows") > 0, again)
            return b""
        return self._read_bytes("ledger.jsonl")

    @property
    def num_jobs(self) -> int:
        """How many jobs have worked on the output; quick however long the ledger is."""
        return self._ledger.count(b'\n{"job"')

    @cached_property
    def fingerprint(self) -> Fields:
        """The first line of the ledger; empty where it cannot be read."""
        return next(_lines(self._ledger.split(b"\n", 1)[:1]), Fields())

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
        for line in _lines(self._ledger.splitlines()[1:]):
            rank, rows = line.number("rank"), line.number("stop") - line.number("start")
            if isinstance(line.get("job"), dict):
                jobs.append(Job(line.fields("job")))
            elif isinstance(line.get("withdrawn"), list):
                committed.difference_update(index for index in line["withdrawn"] if isinstance(index, int))
            elif jobs and isinstance(line.get("chunk"), int) and 0 <= rank < _MOST_RANKS and rows >= 0:
                committed.add(line["chunk"])
                times, bad = (line.number("seconds"), line.number("began")), line.get("bad")
                chunk = Chunk(int(rank), int(rows), *times, len(bad) if isinstance(bad, list) else 0)
                jobs[-1].chunks.append(chunk)
        return jobs, committed

    def _read(self, name: str) -> Fields:
        content = next(_lines([self._read_bytes(name)]), None)
        self._note((self.folder / name).exists() and content is None, f"{name} {_NOT_READ}: it is damaged.")
        return Fields(with_current_phases(content or {}))

    def _read_config(self) -> Fields:
        import tomllib  # the report of a job that has ended has the options, too

        try:
            return Fields(tomllib.loads(self._read_bytes("config.toml").decode()))
        except (ValueError, RecursionError):
            self.notes.append(f"config.toml {_NOT_READ}: it is damaged.")
            return Fields()

    def _read_bytes(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            self._note(name in ("ledger.jsonl", "config.toml"), f"{name} is missing.")
        except OSError as error:
            self.notes.append(f"{name} {_NOT_READ}: {error.strerror}.")
        return b""

    def _note(self, holds: bool, what: str) -> None:
        self.notes += [what] if holds else []


def _group_size(size: float, ranks: int) -> int:
    return int(size) if size > 1 and size.is_integer() and ranks % size == 0 else 1


def _lines(lines: list[bytes]) -> Iterator[Fields]:
    """Yield the JSON objects of those lines that hold one."""
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(content := json.loads(line), dict):
                yield Fields(content)


def _explained(output: str) -> str:
    from runner.records.explain import explain  # a job that has ended well has no need of it

    try:
        return explain(output)
    except RunnerError as error:
        return error.message
    except Exception as error:  # damage that nobody has thought of
        return f"The records of {output} are damaged ({type(error).__name__})."
