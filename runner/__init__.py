"""Distributed batch inference for HPC: run a trained PyTorch model once over each row of a large data set, in order.

Importing this package costs milliseconds, because every rank imports it at once from one file system: PyTorch, MPI and
Horovod are loaded when a job starts.
"""

from typing import TYPE_CHECKING, Any

from runner.core.errors import InputError, ModelError, OutputError, RunnerError, UsageError

if TYPE_CHECKING:
    from runner.telemetry.report import Report

__all__ = ["InputError", "ModelError", "OutputError", "RunnerError", "UsageError", "predict"]


def predict(**options: Any) -> "Report":
    """Run one prediction job; calls `runner.job.run.predict`, see there."""
    from runner.job.run import predict as run_predict

    return run_predict(**options)
