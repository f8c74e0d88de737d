"""Results of the stages of a job, passed on to the next ones."""

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
from runner.engine.observer import Observer
from runner.engine.predictor import Predictor
from runner.host.stop import Stop
from runner.records.failure import FailureRecord
from runner.records.recorder import Committed, Recorder
from runner.sinks import Sink
from runner.telemetry.log import PhaseTracker
from runner.telemetry.stats import RankStats
from runner.telemetry.timeline import Timeline

if TYPE_CHECKING:
    from runner.parallel.member import GroupMember


@dataclass(frozen=True)
class Session:
    """The ranks of a job, and all that accompanies them from start to end.

    Attributes:
        config: the options.
        everyone: all ranks.
        comm: the ranks that compute: all, or the first rank of each model-parallel group.
        group: this rank's membership in a model-parallel group; None where each rank holds the complete model.
        device: device of this rank.
        recorder: recorder of the output; used on rank 0 alone.
        failure: keeps the error that ends the job.
        stop: the signal or time limit that ends the job early.
        watchdog: ends a job that hangs.
        phases: reports the current phase of the main thread to watchdog, timeline and log.
        timeline: the time of this rank, by phase.
        stats: the figures of this rank for the report.
        began: start of the job, in seconds since the epoch.
        hosts: number of ranks by host; on rank 0.
    """

    config: Config
    everyone: Comm
    comm: Comm
    group: "GroupMember | None"
    device: torch.device
    recorder: Recorder
    failure: FailureRecord
    stop: Stop
    watchdog: Watchdog
    phases: PhaseTracker
    timeline: Timeline
    stats: RankStats
    began: float
    hosts: Mapping[str, int]

    @property
    def observer(self) -> Observer:
        """The observer of this rank's loop."""
        return Observer(self.stop, self.watchdog.main, self.timeline)


@dataclass(frozen=True)
class Fingerprint:
    """Identity of a run, as far as it is known before the model is loaded.

    Attributes:
        stamp: result of `source.stamp()` before a row was read.
        values: values of options and data that must be the same in every job of the run.
    """

    stamp: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class LoadedModel:
    """The model, loaded on every rank.

    Attributes:
        predictor: the model with its pre- and post-processing.
        digest: digest of the weights and settings.
    """

    predictor: Predictor
    digest: str


@dataclass(frozen=True)
class ProvenModel(LoadedModel):
    """A loaded model that has computed a first row.

    Attributes:
        row_type: type of a row of predictions, with the passthrough columns.
        good_row: number of that row; None where the data set has no rows.
    """

    row_type: RowTypes
    good_row: int | None


@dataclass(frozen=True)
class Work:
    """The opened output, and the remaining work.

    Attributes:
        grid: the partition of the rows into chunks.
        committed: chunks that earlier jobs of the run have committed.
        ranks_write: whether each rank writes its predictions by itself.
        sink: sink of this rank, where ranks write; None on rank 0, whose recorder writes, or if it writes all.
    """

    grid: Grid
    committed: Committed
    ranks_write: bool
    sink: Sink | None


@dataclass(frozen=True)
class Computed:
    """Result of the loop.

    Attributes:
        collect_bytes: bytes received by this rank.
        baseline: the speed of one rank alone, where it was measured; on rank 0.
    """

    collect_bytes: int
    baseline: Speed | None
