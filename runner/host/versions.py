"""Versions of Python, of the runner and of the libraries that decide what it computes."""

import importlib.metadata
import platform
import sys

from runner.host.scheduler import scheduler_job

RUNNER = "horovod-inference-runner"
PACKAGES = (RUNNER, "torch", "numpy", "horovod", "mpi4py")
_COMPUTING = ("torch", "onnxruntime", "transformers", "tokenizers", "sentence_transformers", "timm", "numpy", "PIL")


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages, by the names of their distributions."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def versions() -> dict[str, str]:
    """Return the same versions as shown to people: by short names, "none" for a package that is not installed."""
    installed = installed_versions()
    names = {"Python": "python", **{package: package for package in PACKAGES if package != RUNNER}, "runner": RUNNER}
    return {name: installed.get(package, "none") for name, package in names.items()}


def describe_environment(mpi_library: str) -> dict[str, str]:
    """Return the versions as shown to people, the MPI library, and the scheduler's number of the job."""
    return {**versions(), "MPI": mpi_library, "scheduler job": scheduler_job()}


def computing_versions() -> dict[str, str]:
    """Return the versions of the libraries in use that may change predictions, by name of the module."""
    return {
        name: str(sys.modules[name].__version__) for name in _COMPUTING if hasattr(sys.modules.get(name), "__version__")
    }
