"""Comparison of the software of the ranks."""

import platform
from typing import Any

from runner.comm import Comm
from runner.host.launch import warn
from runner.host.versions import computing_versions


def compare_software(comm: Comm) -> list[dict[str, Any]]:
    """Warn where ranks compute with different versions; every rank that computes calls it, with the model loaded.

    Returns:
        `versions` of Python and the libraries in use, for the records, with the `ranks` and `hosts` that have these;
        empty where all ranks have the same.
    """
    own = {"Python": platform.python_version(), **computing_versions()}
    environments: list[dict[str, Any]] = []
    for rank, (host, versions) in enumerate(comm.gather_all((comm.world.host, own))):
        same = [environment for environment in environments if environment["versions"] == versions]
        if not same:
            environments.append({"versions": versions, "ranks": [], "hosts": []})
            same = environments[-1:]
        same[0]["ranks"].append(rank)
        same[0]["hosts"] = list(dict.fromkeys([*same[0]["hosts"], host]))
    if len(environments) < 2:
        return []
    differences = []
    for name in dict.fromkeys(name for each in environments for name in each["versions"]):
        found = [(each["versions"].get(name, "none"), " and ".join(each["hosts"])) for each in environments]
        if len({version for version, _ in found}) > 1:
            differences.append(f"{name} {', '.join(f'{version} on {hosts}' for version, hosts in found)}")
    words = f"the ranks do not compute with the same software: {'; '.join(differences)}"
    warn(comm.world, f"{words}. Use one environment on all hosts")
    return environments
