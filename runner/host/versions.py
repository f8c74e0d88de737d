"""Versions of Python, of the main libraries and of the runner."""

import importlib.metadata
import platform
import sys

_PACKAGES = ("torch", "horovod", "mpi4py", "numpy")
_COMPUTING = ("torch", "onnxruntime", "transformers", "tokenizers", "sentence_transformers", "timm", "numpy", "PIL")


def versions() -> dict[str, str]:
    """Return versions by name; "none" for a package that is not installed."""
    packages = {name: _version(name) for name in _PACKAGES}
    return {"Python": platform.python_version(), **packages, "runner": _version("horovod-inference-runner")}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def computing_versions() -> dict[str, str]:
    """Return the versions of the libraries in use that may change predictions, by name of the module."""
    return {
        name: str(sys.modules[name].__version__) for name in _COMPUTING if hasattr(sys.modules.get(name), "__version__")
    }
