"""`hvd-runner doctor`: checks under any launcher, in about a minute, whether a job would find what it needs.

The checks go from the launch outwards; each has a time limit, and a check that hangs is named.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from runner.comm import Comm, connect
from runner.comm.watchdog import Watchdog
from runner.comm.workers import share_threads
from runner.commands.doctor.batch import check_batch
from runner.commands.doctor.early import look_around
from runner.commands.doctor.facts import gather_facts
from runner.commands.doctor.finding import WRONG, Finding, FindingList
from runner.commands.doctor.judge import as_plain, judge
from runner.commands.doctor.measure import check_clocks, check_rates, check_speed
from runner.commands.doctor.storage import check_storage
from runner.config.options import Config, make_config
from runner.core.errors import RunnerError
from runner.core.urls import local_name
from runner.host.devices import device_kind, local_device
from runner.host.launch import detect_launch

_STALL_SECONDS = 60  # the stall timeout of a job would be too long
_PLACEHOLDERS = {"model": len, "data": ()}  # placeholders where no model is given: a Config requires both


def doctor(arguments: dict[str, Any], options: dict[str, Any]) -> int:
    """Run all checks, print their findings on rank 0, and return the exit code; every rank calls this.

    Args:
        arguments: `folder` and `json`, where given.
        options: options of predict, where given; with `model` and `data` a real batch is run.

    Raises:
        UsageError: an option is invalid.
    """
    began, launch = time.monotonic(), detect_launch()
    config = make_config(_PLACEHOLDERS | {"stall_timeout": _STALL_SECONDS} | options)
    findings, facts = FindingList(prints=launch.rank == 0), []
    findings.add(look_around(launch))
    try:
        comm = connect(launch, config.comm, config.collect, device_kind(config), config.stall_timeout)
    except RunnerError as error:
        findings.add([_failed("launch", error)])
    else:
        with Watchdog(comm, config.stall_timeout) as watch:
            folder = arguments.get("folder") or os.path.dirname(local_name(config.output or "")) or "."
            facts = _examine(config, comm, folder, findings, watch)
        comm.close()
    findings.close(time.monotonic() - began, arguments.get("json"), facts)
    return findings.exit_code


def _examine(config: Config, comm: Comm, folder: str, findings: FindingList, watch: Watchdog) -> list[dict[str, Any]]:
    """Run all checks that need connected ranks, and return the ranks' facts."""
    try:
        device = comm.on_each(lambda: local_device(config, comm.world.local_rank))
    except RunnerError as error:
        findings.add([_failed("GPUs", error)])
        return []
    facts = gather_facts(comm, device, share_threads(config, comm))
    findings.add(judge(facts))
    checks: dict[str, Callable[[], list[Finding]]] = {
        "clocks": lambda: check_clocks(comm),
        "storage": lambda: check_storage(comm, folder),
        "speed": lambda: check_speed(comm, device),
        "rates": lambda: check_rates(comm),
    }
    if config.model is not len:
        checks["batch"] = lambda: check_batch(config, comm, device)
    for name, check in checks.items():
        watch.main.begin(f"checking {name}")
        try:
            findings.add(check())
        except RunnerError as error:
            findings.add([_failed(name, error)])
    return as_plain(facts)


def _failed(check: str, error: RunnerError) -> Finding:
    where = f"{error.who}: " if error.who else ""
    return Finding(check, WRONG, where + error.message, exit_code=error.exit_code)
