"""Rank 0's side of an output that stays in memory."""

from typing import Any

from runner.chunks.commit import Commit
from runner.chunks.grid import Grid
from runner.data.rows import RowTypes
from runner.records.recorder import Committed, Recorder
from runner.sinks.memory import MemorySink


class MemoryRecorder(Recorder):
    """Recorder in memory, for callers from Python; nothing is left of a job that fails or is stopped."""

    def prepare(self, fingerprint: dict[str, Any]) -> None:
        self._open_metrics()

    def open(
        self, fingerprint: dict[str, Any], grid: Grid, row_type: RowTypes, job: dict[str, Any], where: str
    ) -> Committed:
        self._sink = MemorySink(grid.num_rows, row_type)
        self._begin_progress(grid, (), job, where)
        return Committed()

    def finish(self) -> None:
        self._end_progress()
        assert isinstance(self._sink, MemorySink)
        self.predictions = self._sink.predictions()

    def suspend(self) -> None:
        self._end_progress()

    def write_report(self, report: str, timeline: str) -> None:
        pass

    def release(self) -> None:
        super().release()

    def _keep(self, commit: Commit) -> None:
        pass
