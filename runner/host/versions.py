"""Versions of Python, of the runner and of the libraries that decide what it computes."""

import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.core.text import name_some
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


@dataclass(frozen=True)
class Software:
    """Software of one rank.

    Attributes:
        who: the rank in words.
        host: name of its host.
        versions: versions by name.
    """

    who: str
    host: str
    versions: Mapping[str, str]


def name_differences(ranks: Sequence[Software]) -> str:
    """Return, of all that is not the same on all ranks, each version and its hosts; empty where there is none.

    Where ranks of one host differ, they are named in its place.
    """
    differences = []
    for name in dict.fromkeys(name for rank in ranks for name in rank.versions):
        found: dict[str, list[Software]] = {}
        for rank in ranks:
            found.setdefault(rank.versions.get(name, "none"), []).append(rank)
        if len(found) > 1:
            hosts = [{rank.host for rank in same} for same in found.values()]
            is_by_host = sum(map(len, hosts)) == len(set().union(*hosts))
            where = (name_some(rank.host if is_by_host else rank.who for rank in same) for same in found.values())
            words = (f"{version} on {places}" for version, places in zip(found, where, strict=True))
            differences.append(f"{name} {', '.join(words)}")
    return "; ".join(differences)
