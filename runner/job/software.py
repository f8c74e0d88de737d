"""Comparison of the software of the ranks."""

import platform
from typing import Any

from runner.comm import Comm
from runner.host.launch import warn
from runner.host.versions import Software, computing_versions, name_differences


def compare_software(comm: Comm) -> list[dict[str, Any]]:
    """Warn where ranks compute with different versions; every rank that computes calls it, with the model loaded.

    Returns:
        `versions` of Python and the libraries in use, for the records, with the `ranks` and `hosts` that have these;
        empty where all ranks have the same.
    """
    own = Software(comm.world.who, comm.world.host, {"Python": platform.python_version(), **computing_versions()})
    ranks = comm.gather_all(own)
    environments: list[dict[str, Any]] = []
    for number, rank in enumerate(ranks):
        same = [environment for environment in environments if environment["versions"] == rank.versions]
        if not same:
            environments.append({"versions": rank.versions, "ranks": [], "hosts": []})
            same = environments[-1:]
        same[0]["ranks"].append(number)
        same[0]["hosts"] = list(dict.fromkeys([*same[0]["hosts"], rank.host]))
    if len(environments) < 2:
        return []
    words = f"the ranks do not compute with the same software: {name_differences(ranks)}"
    warn(comm.world, f"{words}. Use one environment on all hosts")
    return environments
