"""Report of a job: `report.json`, and the summary line on the screen."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runner.core.text import duration, plural, rate
from runner.telemetry.efficiency import Efficiency
from runner.telemetry.stats import RankStats


def read_record(path: Path) -> dict[str, Any] | None:
    """Read the JSON object in a file of a run folder; None where there is none that can be read."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def read_report(folder: Path) -> dict[str, Any] | None:
    """Read the report in a run folder; None where there is none that can be read."""
    return read_record(folder / "report.json")


def read_status(folder: Path) -> str:
    """Return the status in the report of a run folder; empty where there is none that can be read."""
    return str((read_report(folder) or {}).get("status", ""))


@dataclass
class Report:
    """Figures of one job; bytes, rows and seconds as the names tell.

    Attributes:
        status: "whole" if the output is complete, "stopped" if the job has stopped before, on purpose.
        stopped_by: "a signal" or "the time limit"; empty if the output is complete.
        num_rows: rows of the data set; the sum of computed, resumed, quarantined and remaining rows.
        computed_rows: rows computed by this job.
        resumed_rows: rows computed by earlier jobs of the same output.
        quarantined_rows: rows that failed and were set aside.
        remaining_rows: rows left to the next job.
        nonfinite_rows: rows with a NaN or an infinity in their predictions, output complete or not; without bad rows.
        halved_rows: rows in batches that ran out of memory and were computed in smaller pieces: they may differ in the
            last bits from the result of one batch. The ledger names them.
        cut_rows: rows whose text was cut at `token_limit` tokens, output complete or not; without bad rows.
        cut_tokens: number of tokens that these rows lost.
        token_limit: the most tokens a row may have; 0 where none was cut.
        counts: what the model counted, by name, such as tokens; by this job and earlier ones.
        canary: how the ranks' answers to the same rows compare; empty where one rank has nothing to tell, or no row
            could be computed.
        warnings: warnings of the job, as they were printed.
        world_size: number of ranks.
        wall_seconds: time from the start of rank 0's process until the output was complete.
        startup_seconds: part of it before rank 0's first batch.
        loop_seconds: time from then until all predictions were collected.
        rows_per_second: computed rows over loop_seconds.
        efficiency: speed relative to one rank, and where the time went; None where nothing was computed.
        latencies: number of batches by class of latency; see `runner.telemetry.timeline`.
        collect_bytes: bytes of chunks that rank 0 received from other ranks.
        broadcast_bytes, broadcast_seconds: size of the weights that rank 0 sent, and the time it took.
        peak_rss_bytes: per rank, the most memory its process held.
        output: path of the predictions; None if they are in `predictions`.
        launcher: the launcher of the ranks.
        started, epoch: start of rank 0's process, in local time and in seconds since 1970.
        command, launcher_command: command lines, as far as they can be seen on rank 0's host.
        config: the options; see `Config.resolved`.
        environment: versions by name, the MPI library, the scheduler's number of the job.
        ranks: figures of each rank.
        predictions: on rank 0 of a job without an output file, `(num_rows, ...)`; else None. Not in the file.
    """

    status: str
    stopped_by: str
    num_rows: int
    computed_rows: int
    resumed_rows: int
    quarantined_rows: int
    remaining_rows: int
    nonfinite_rows: int
    halved_rows: int
    cut_rows: int
    cut_tokens: int
    token_limit: int
    counts: dict[str, int]
    canary: str
    warnings: list[str]
    world_size: int
    wall_seconds: float
    startup_seconds: float
    loop_seconds: float
    rows_per_second: float
    efficiency: Efficiency | None
    latencies: list[int]
    collect_bytes: int
    broadcast_bytes: int
    broadcast_seconds: float
    peak_rss_bytes: list[int]
    output: str | None
    launcher: str
    started: str
    epoch: float
    command: str
    launcher_command: str
    config: dict[str, Any]
    environment: dict[str, str]
    ranks: list[RankStats]
    predictions: np.ndarray | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """Return the report as JSON, without the predictions."""
        values: dict[str, Any] = dataclasses.asdict(dataclasses.replace(self, predictions=None))
        del values["predictions"]
        return json.dumps(values, indent=2) + "\n"

    def summary(self) -> str:
        """Return one line for people."""
        if self.remaining_rows:
            jobs = -(-self.remaining_rows // self.computed_rows) if self.computed_rows else 0
            more = f"{plural(jobs, 'more job', 'more jobs')} of this length" if jobs else "this job has computed none"
            return (
                f"stopped by {self.stopped_by}: {self.num_rows - self.remaining_rows:,} of "
                f"{plural(self.num_rows, 'row')} done and kept, {self.remaining_rows:,} left ({more}); the same "
                "command resumes"
            )
        notes = f", {self.nonfinite_rows:,} with predictions that are not finite" if self.nonfinite_rows else ""
        notes += f", {self.halved_rows:,} in smaller batches after out of memory" if self.halved_rows else ""
        if self.cut_rows:
            texts, limit = plural(self.cut_rows, "text"), plural(self.token_limit, "token")
            notes += f", {texts} truncated at {limit}, {plural(self.cut_tokens, 'token')} lost"
        if new := self.counts.get("completion_tokens"):
            notes += f", {plural(new, 'token')} from {plural(self.counts['prompt_tokens'], 'token')} of prompts"
        bad = f", {self.quarantined_rows:,} of them in quarantine" if self.quarantined_rows else ""
        resumed = f", {self.resumed_rows:,} resumed" if self.resumed_rows else ""
        return (
            f"{plural(self.num_rows, 'row')} -> {self.output or 'memory'} (complete{bad}{notes}{resumed}): "
            f"{rate(self.rows_per_second)} on {plural(self.world_size, 'rank')}, {duration(self.wall_seconds)} in all, "
            f"{duration(self.startup_seconds)} of it start-up"
        )
