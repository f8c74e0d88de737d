"""Distributed batch inference for HPC: a trained PyTorch model over a large data set, whole, once each, in order.

Importing it costs milliseconds, because every rank does so at once from one file system: PyTorch, MPI and Horovod are
loaded when a job starts.
"""

from typing import TYPE_CHECKING, Any

from runner.core.errors import InputError, ModelError, OutputError, RunnerError, UsageError

if TYPE_CHECKING:
    from runner.telemetry.report import Report

__all__ = ["InputError", "ModelError", "OutputError", "RunnerError", "UsageError", "predict"]


def predict(**options: Any) -> "Report":
    """Run one prediction job; see `runner.job.run.predict`, which this calls."""
    from runner.job.run import predict as run_predict

    return run_predict(**options)
