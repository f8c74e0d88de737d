"""`hvd-runner submit`: writes the batch script or the command line of a prediction job, and starts it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from runner.commands.submit.inputs import check_inputs
from runner.commands.submit.scripts import BatchJob, horovodrun, lsf, mpirun, pbs, slurm, time_limit
from runner.config.checks import check_positive, parse_memory, parse_time
from runner.config.options import Config
from runner.core.errors import EXIT_COMPLETE, UsageError
from runner.host.launch import read_variables
from runner.records.ledger import run_folder

_WRITE: dict[str, Callable[[BatchJob], str]] = {
    "slurm": slurm,
    "pbs": pbs,
    "lsf": lsf,
    "mpirun": mpirun,
    "horovodrun": horovodrun,
}
_PROGRAMS = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub", "mpirun": "mpirun", "horovodrun": "horovodrun"}
_AT_ONCE = ("mpirun", "horovodrun")
_OF_SCHEDULERS = ("nodes", "gpus", "time", "memory", "partition", "account", "requeue", "directive")
_SECONDS = 3600
_LOADED_MODULES = "LOADEDMODULES"  # set by both Environment Modules and Lmod


def submit(arguments: dict[str, Any], predict: tuple[str, ...], options: dict[str, Any], config: Config) -> int:
    """Start the job, or print it with `--print`, and return the exit code; mpirun and horovodrun replace this process.

    Args:
        arguments: the options of this command, by name.
        predict: the options of predict, as they were given.
        options: the options of predict, by name.
        config: configuration of the job, made from them.

    Raises:
        UsageError: an option is wrong; a file of the job is missing; the launcher is missing or rejects the job.
    """
    launcher = arguments["launcher"]
    job = _make_job(launcher, arguments, predict, options, config)
    text = _WRITE[launcher](job)
    try:
        check_inputs(config)
    except UsageError as error:
        if not arguments.get("print"):
            raise
        print(f"runner: warning: {error}", file=sys.stderr)  # what is printed may be for another cluster
    if arguments.get("print"):
        print(text, end="")
        return EXIT_COMPLETE
    program = _PROGRAMS[launcher]
    if not shutil.which(program) and not (launcher in _AT_ONCE and shutil.which(program, path=job.programs)):
        raise UsageError(
            f"--launcher {launcher}: {program} is not on PATH. Submit on a host that has it, or show the script with "
            "--print"
        )
    if launcher in _AT_ONCE:
        _become(text)
    done = subprocess.run([program], input=text, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{program} refused the job (exit code {done.returncode}), for the reason above")
    return EXIT_COMPLETE


def _become(text: str) -> NoReturn:
    """Replace this process by the command, so that signals to it reach the launcher."""
    sys.stdout.flush()
    os.execvp("bash", ["bash", "-c", text])


def _make_job(
    launcher: str, arguments: dict[str, Any], predict: tuple[str, ...], options: dict[str, Any], config: Config
) -> BatchJob:
    is_batch = launcher not in _AT_ONCE
    _check_belongs(launcher, arguments)
    for name in ("nodes", "ranks_per_node", "cpus_per_rank"):
        if name in arguments:
            check_positive(f"--{name.replace('_', '-')}", arguments[name])
    for name in ("partition", "account"):
        if not re.fullmatch(r"\S+", arguments.get(name, "-")):
            raise UsageError(f"--{name} {arguments[name]!r} must be a name without spaces")
    if any("\n" in line for line in arguments.get("directive", ())):
        raise UsageError("--directive must be one line; give it again for another")
    if "memory" in arguments:
        parse_memory(arguments["memory"])
    gpus = arguments.get("gpus", False)
    if gpus and config.device == "cpu":
        raise UsageError("--gpus and --device cpu cannot be combined")
    if is_batch and config.device == "cuda" and not gpus and not arguments.get("directive"):
        raise UsageError("--device cuda without GPUs in the job: give --gpus, or the site's own option by --directive")
    seconds = _seconds(arguments["time"]) if "time" in arguments else _SECONDS
    cpus = arguments.get("cpus_per_rank", 1 if is_batch else None)
    more: list[str] = []
    if cpus and "threads" not in options:
        more += ["--threads", str(cpus)]
    if gpus and "device" not in options:
        more += ["--device", "cuda"]  # a node whose GPUs PyTorch does not see is then an error, not a slow job
    if launcher in ("pbs", "lsf") and "time_limit" not in options:
        more += ["--time-limit", str(time_limit(seconds))]
    hostfile = arguments.get("hostfile")
    return BatchJob(
        predict=(*predict, *more),
        python=sys.executable,
        programs=str(Path(sys.executable).parent),
        folder=os.getcwd(),
        ledger=f"{run_folder(str(config.output))}/ledger.jsonl",
        modules=" ".join(read_variables([_LOADED_MODULES]).get(_LOADED_MODULES, "openmpi").split(":")),
        nodes=arguments.get("nodes", 1),
        ranks_per_node=_slots(hostfile) if hostfile else arguments.get("ranks_per_node", 1),
        cpus_per_rank=cpus,
        gpus=gpus,
        seconds=seconds,
        memory=arguments.get("memory"),
        partition=arguments.get("partition"),
        account=arguments.get("account"),
        requeue=arguments.get("requeue", False),
        hostfile=hostfile,
        directives=tuple(arguments.get("directive", ())),
    )


def _check_belongs(launcher: str, arguments: dict[str, Any]) -> None:
    """Raise UsageError where an option does not apply to this launcher."""
    if launcher in _AT_ONCE:
        if wrong := [name for name in _OF_SCHEDULERS if name in arguments]:
            raise UsageError(f"--{wrong[0]} is for slurm, pbs and lsf; {launcher} has --ranks-per-node or --hostfile")
        if "hostfile" in arguments and "ranks_per_node" in arguments:
            raise UsageError("--hostfile says how many ranks each host has; leave --ranks-per-node out")
        return
    if "hostfile" in arguments:
        raise UsageError(f"--hostfile is for mpirun and horovodrun; {launcher} chooses the hosts, --nodes of them")
    if "requeue" in arguments and launcher != "slurm":
        raise UsageError(f"--requeue is for slurm; on {launcher} submit the same job again, which resumes")
    if "memory" in arguments and launcher == "lsf":
        raise UsageError(
            "--memory: LSF counts it by host or slot as the site says; give --directive='-R rusage[mem=4GB]'"
        )


def _seconds(text: str) -> int:
    seconds = parse_time("--time", text) if ":" in text else 0  # a number alone is minutes to Slurm, seconds to us
    if seconds < 60:
        raise UsageError(f"--time {text!r} must be H:MM:SS, such as 2:30:00, and a minute at least")
    return seconds


def _slots(hostfile: str) -> int:
    """Return the sum of the slots in a hostfile, in the form that both mpirun and horovodrun read."""
    try:
        lines = Path(hostfile).read_text().splitlines()
    except OSError as error:
        raise UsageError(f"--hostfile {hostfile}: {error.strerror}") from error
    matches = [re.fullmatch(r"\S+ slots=([1-9]\d*)", line) for line in lines]
    for line, match in zip(lines, matches, strict=True):
        if not match:
            raise UsageError(f"--hostfile {hostfile}: {line!r} is not HOST slots=N, which both launchers read")
    if not lines:
        raise UsageError(f"--hostfile {hostfile} names no hosts")
    return sum(int(match[1]) for match in matches if match)
