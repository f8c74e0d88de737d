"""The commands and options of the command line, for argparse."""

import argparse
import dataclasses
import functools
import json
import typing
from collections.abc import Callable
from typing import Any, NoReturn

from runner.cli.actions import PrintCompletion, ShowVersions
from runner.config.constants import parse_constant
from runner.config.options import Config
from runner.core.errors import UsageError

_GROUPS = {"model": "the model", "data": "data and output", "work": "how to work"}
_INSPECT_OPTIONS = (
    "model_args",
    "weights",
    "weights_key",
    "strip_prefix",
    "ignore_keys",
    "trust_pickle",
    "trust_code",
    "dtype",
    "input",
)
_VERIFY = "Read a finished output again: exit code 0 where every row is what was computed, 65 on any doubt."
_EXPLAIN = "Explain in plain words how a job ended, what is safe, and what to type next."
_WATCH = "Show the progress of a running job until it ends, from any host that sees its files; then explain its end."
_REPORT = """Draw a page of the records of a job: where the time went, what each rank did when, speed, load, memory.
Of several outputs: a comparison, and the speed-up by the number of ranks."""
_HOSTS = "Print a hostfile for mpirun and horovodrun, of the Slurm, PBS or LSF job that this is run in."
_INSPECT = "Load a model as predict would, and describe it: kind, parameters, dtypes, bytes, inputs."
_SUBMIT = "Write the batch script, or the command line, of a prediction job and submit it. Other options are predict's."
_PLAN = "Estimate the time, memory and disk space of a job before it takes an allocation. Other options are predict's."
_DOCTOR = """Check launch, MPI, GPUs, CPUs, network, clocks and storage in a minute; put the job's launcher before it.
With predict's --model and --data it runs a real batch, too. Exit code 0 where nothing is wrong."""
_EXIT_CODES = """exit codes:
  0   the output is complete
  64  wrong usage, or a launch that cannot work
  65  bad data, model or weights
  70  a rank that hung (--stall-timeout) or computes wrong, or a bug of the runner
  73  the output cannot be written
  75  stopped early on purpose (time limit, signal); the same command resumes from there
"""


def _parse_json_object(option: str, text: str) -> Any:
    """Parse the JSON given to an option.

    Raises:
        UsageError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{option} is not JSON ({error}): {text!r}") from error


def make_parser(program: str = "hvd-runner") -> argparse.ArgumentParser:
    """Make the parser of the command line; `program` is the name that its help shows."""
    parser = _Parser(
        prog=program,
        description="Distributed batch inference: the predictions of a trained model for a whole data set, in order.",
        epilog="Put horovodrun -np N, mpirun -np N or srun before it to use N ranks.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action=ShowVersions,
        nargs=0,
        default=argparse.SUPPRESS,
        help="print the versions of the runner and its parts",
    )
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=("bash", "zsh"),
        default=argparse.SUPPRESS,
        help="print a script with which this shell completes hvd-runner",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (summary, description, add) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=_EXIT_CODES if name == "predict" else None,
            formatter_class=argparse.RawDescriptionHelpFormatter if name == "predict" else argparse.HelpFormatter,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        add(command)
    return parser


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Add the options of `predict` to the parser of a command."""
    parser.add_argument("--config", metavar="PATH", help="TOML file of these options; the command line wins over it")
    groups = {key: parser.add_argument_group(title) for key, title in _GROUPS.items()}
    for field in dataclasses.fields(Config):
        _add_option(groups[field.metadata["group"]], field)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="what predict wrote; its records are in OUTPUT.run/")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_output(parser)
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="as predict's --data: also compare its rows, read here, with what the ranks read",
    )


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("outputs", nargs="+", metavar="OUTPUT", help="what predict wrote; or a report.json, to compare")
    parser.add_argument(
        "--html", metavar="PATH", help="path of the page (default: OUTPUT.run/report.html; of several: comparison.html)"
    )


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="as predict's --model")
    for field in dataclasses.fields(Config):
        if field.name in _INSPECT_OPTIONS:
            _add_option(parser, field)


def _add_hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hosts", nargs="?", metavar="HOST:SLOTS,...", help="these hosts instead")
    parser.add_argument("--slots", type=int, metavar="N", help="ranks of each host, instead of the scheduler's number")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", metavar="PATH", help="folder of the output (default: that of --output, or the current one)"
    )
    parser.add_argument("--json", metavar="PATH", help="also write the findings to this file")


def _add_submit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--launcher",
        required=True,
        choices=("slurm", "pbs", "lsf", "mpirun", "horovodrun"),
        help="scheduler or launcher",
    )
    parser.add_argument(
        "--print", action="store_true", help="print the script or command instead of submitting or starting it"
    )
    parser.add_argument(
        "--ranks-per-node", type=int, metavar="N", help="ranks of each node, or of this host (default 1)"
    )
    parser.add_argument(
        "--cpus-per-rank", type=int, metavar="N", help="CPUs of each rank, and as many --threads unless they are given"
    )
    parser.add_argument("--hostfile", metavar="PATH", help="mpirun and horovodrun: a rank for each slot in it")
    batch = parser.add_argument_group("slurm, pbs and lsf")
    batch.add_argument("--nodes", type=int, metavar="N", help="nodes of the job (default 1)")
    batch.add_argument("--gpus", action="store_true", help="a GPU for each rank")
    batch.add_argument("--time", metavar="H:MM:SS", help="time limit of the job (default 1:00:00)")
    batch.add_argument("--memory", metavar="SIZE", help="of each node, such as 64G (slurm, pbs)")
    batch.add_argument("--partition", metavar="NAME", help="partition or queue")
    batch.add_argument("--account", metavar="NAME", help="account or project")
    batch.add_argument("--requeue", action="store_true", help="requeue the job until the output is complete (slurm)")
    batch.add_argument(
        "--directive", action="append", metavar="TEXT", help="another option of the scheduler's: --directive=--qos=long"
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ranks", type=int, metavar="N", help="ranks of the job (default 1)")
    parser.add_argument(
        "--ranks-per-node", type=int, metavar="N", help="by default as many as the CPUs of this host allow"
    )
    parser.add_argument("--cpus-per-rank", type=int, metavar="N", help="CPU threads, unless --threads is given")
    parser.add_argument("--memory", metavar="SIZE", help="of each node, such as 64G (default: as this host)")
    parser.add_argument(
        "--memory-per-rank",
        metavar="SIZE",
        help="of each rank, such as 40G of a GPU: which --model-parallel fits (default: of a GPU of this host, "
        "or a node's by its ranks)",
    )
    parser.add_argument("--report", metavar="PATH", help="a former run's OUTPUT.run/report.json, instead of measuring")


_Add = Callable[[argparse.ArgumentParser], None]
_COMMANDS: dict[str, tuple[str, str, _Add]] = {
    "predict": (
        "run a model over a data set",
        "Run a model over a data set. The same command resumes where a job that was ended had stopped.",
        add_predict,
    ),
    "verify": ("check a finished output against its certificate", _VERIFY, _add_verify),
    "watch": ("the progress of a running job", _WATCH, _add_output),
    "explain": ("how a job ended, and what to do next", _EXPLAIN, _add_output),
    "report": ("a page to look at, of one job or of several", _REPORT, _add_report),
    "inspect": ("the kind and inputs of a model, without running a job", _INSPECT, _add_inspect),
    "plan": ("the time and memory of a job, without running it", _PLAN, _add_plan),
    "submit": ("the batch script of a job, submitted", _SUBMIT, _add_submit),
    "doctor": ("check the ranks, their hosts and the storage", _DOCTOR, _add_doctor),
    "hosts": ("a hostfile of this allocation", _HOSTS, _add_hosts),
}
TAKE_PREDICTS = ("plan", "submit", "doctor")


def _add_option(group: "argparse._ActionsContainer", field: "dataclasses.Field[Any]") -> None:
    option = f"--{field.name.replace('_', '-')}"
    help_text = field.metadata["help"]
    if field.name == "verbose":
        group.add_argument("-v", "--verbose", action="count", help=help_text)
        return
    if field.type is bool:
        group.add_argument(option, action="store_true", help=help_text)
        return
    kind: Callable[[str], Any] = str
    if field.name == "input":
        group.add_argument(option, type=parse_constant, action="append", metavar="NAME=VALUE", help=help_text)
        return
    if field.name in ("model_args", "data_args"):
        kind = functools.partial(_parse_json_object, option)
    elif field.name == "time_limit":
        kind = str  # seconds, or H:MM:SS: see make_config
    elif int in (kinds := (field.type, *typing.get_args(field.type))) and str not in kinds:
        kind = int
    default = "" if field.default in (None, "", (), dataclasses.MISSING) else f" (default {field.default})"
    group.add_argument(option, type=kind, metavar=field.metadata["metavar"], help=help_text + default)


class _Parser(argparse.ArgumentParser):
    """Parser that raises wrong usage as an exception, so that one rank prints it and the exit code is ours."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")
