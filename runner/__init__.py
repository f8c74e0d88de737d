"""Distributed batch inference for HPC: run a trained PyTorch model once over each row of a large data set, in order.

Importing this package costs milliseconds, because every rank imports it at once from one file system: PyTorch, MPI and
Horovod are loaded when a job starts.
"""

from typing import TYPE_CHECKING, Any

from runner.api import predict
from runner.core.errors import InputError, ModelError, OutputError, RunnerError, UsageError

if TYPE_CHECKING:
    from runner.config.options import Config
    from runner.telemetry.report import Report

__all__ = ["Config", "InputError", "ModelError", "OutputError", "Report", "RunnerError", "UsageError", "predict"]

_LATER = {"Config": "runner.config.options", "Report": "runner.telemetry.report"}


def __getattr__(name: str) -> Any:
    """Import what few programs name when they name it."""
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
