"""Versions of Python, of the main libraries and of the runner."""

import importlib.metadata
import platform

_PACKAGES = ("torch", "horovod", "mpi4py", "numpy")


def versions() -> dict[str, str]:
    """Return versions by name; "none" for a package that is not installed."""
    packages = {name: _version(name) for name in _PACKAGES}
    return {"Python": platform.python_version(), **packages, "runner": _version("horovod-inference-runner")}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
