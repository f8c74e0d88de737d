"""What each stage of a job makes, and hands to the next ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from runner.chunks.grid import Grid
from runner.comm import Comm
from runner.comm.watchdog import Watchdog
from runner.config.options import Config
from runner.data.rows import RowTypes
from runner.engine.baseline import Speed
from runner.engine.canary import Canary
from runner.engine.observer import Observer
from runner.engine.predictor import Predictor
from runner.engine.recovery import BatchRecovery
from runner.host.stop import Stop
from runner.records.failure import FailureRecord
from runner.records.recorder import Committed, Recorder
from runner.sinks import Sink
from runner.sources import Source
from runner.telemetry.log import PhaseTracker
from runner.telemetry.stats import RankStats
from runner.telemetry.timeline import Timeline

if TYPE_CHECKING:
    from runner.parallel.member import GroupMember


@dataclass(frozen=True)
class Session:
    """The ranks of a job and what follows them, from the start to the end.

    Attributes:
        config: the options.
        everyone: all ranks.
        comm: the ranks that compute: all, or the first one of each model-parallel group.
        group: this rank's membership in a model-parallel group; None where each rank holds the whole model.
        recorder: of the output; used on rank 0 alone.
        failure: keeps the error that ends the job.
        stop: the signal or time limit that ends the job early.
        watchdog: ends a job that hangs.
        phases: tells watchdog, timeline and log what the main thread is at.
        timeline: where the time of this rank goes.
        stats: the figures of this rank for the report.
    """

    config: Config
    everyone: Comm
    comm: Comm
    group: "GroupMember | None"
    recorder: Recorder
    failure: FailureRecord
    stop: Stop
    watchdog: Watchdog
    phases: PhaseTracker
    timeline: Timeline
    stats: RankStats

    @property
    def observer(self) -> Observer:
        """What follows the loop of this rank."""
        return Observer(self.stop, self.watchdog.main, self.timeline)


@dataclass(frozen=True)
class Dataset:
    """The data, opened.

    Attributes:
        source: its rows.
        stamp: what it said of itself before a row was read.
        fingerprint: what must be the same in every job of a run, as far as options and data tell.
    """

    source: Source
    stamp: str
    fingerprint: Mapping[str, Any]


@dataclass(frozen=True)
class LoadedModel:
    """The model, ready on every rank.

    Attributes:
        inference: the way of a batch.
        device: of this rank.
        digest: of the weights and settings.
        row_type: of a row of predictions, with the passthrough columns.
        recovery: what is done with a batch that fails.
        canary: compares the ranks' answers; None where the data has no row for it.
        canary_says: what it found at the start, in words.
    """

    predictor: Predictor
    device: torch.device
    digest: str
    row_type: RowTypes
    recovery: BatchRecovery
    canary: Canary | None
    canary_says: str


@dataclass(frozen=True)
class Work:
    """The output, opened, and what is left to compute.

    Attributes:
        grid: the partition of the rows into chunks.
        committed: what earlier jobs of the run have done.
        ranks_write: whether each rank writes its predictions by itself.
        sink: into which this rank does; None on rank 0, whose recorder does, and where that writes those of all.
    """

    grid: Grid
    committed: Committed
    ranks_write: bool
    sink: Sink | None


@dataclass(frozen=True)
class Computed:
    """What the loop has done.

    Attributes:
        collect_bytes: received by this rank.
        baseline: the speed of one rank alone, where it was measured; on rank 0.
    """

    collect_bytes: int
    baseline: Speed | None
