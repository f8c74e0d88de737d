"""The command line: arguments and TOML to a Config, exceptions to messages and exit codes; nothing else."""

import argparse
import dataclasses
import gc
import json
import signal
import sys
import time
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from runner.config import Config, make_config
from runner.errors import EXIT_STOPPED, EXIT_WHOLE, RunnerError, UsageError, render
from runner.stop import SIGNALS
from runner.world import detect_launch

_GROUPS = {"model": "the model", "data": "data and output", "work": "how to work"}
_REQUIRED = ("model", "data", "output")
_VERIFY = "Read a finished output again: exit code 0 where every row is what was computed, 65 on any doubt."
_HOSTS = "Print a hostfile for mpirun and horovodrun, of the Slurm, PBS or LSF job that this is run in."
_INSPECT = "Load a model as predict would, and say what it is: kind, parameters, dtypes, bytes, what it takes."
_INSPECT_OPTIONS = ("model_args", "weights", "trust_pickle")
_EXIT_CODES = """exit codes:
  0   the output is whole
  64  wrong usage, or a launch that cannot work
  65  bad data, model or weights
  70  a rank that hung (--stall-timeout) or computes wrong, or a bug of the runner
  73  the output cannot be written
  75  stopped early on purpose (time limit, signal); the same command goes on from there
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        command, options = _parse(arguments)
        return _COMMANDS[command](options)
    except RunnerError as error:
        _show(error)
        return error.exit_code


def _parse(arguments: Sequence[str] | None) -> tuple[str, Any]:
    """The command, and its Config or other arguments."""
    try:
        given = vars(_make_parser().parse_args(arguments))
        command = given.pop("command")
        return command, _make_predict_config(given) if command == "predict" else given
    except UsageError as error:
        error.shared = True  # every rank has the same command line
        raise


def _make_predict_config(given: dict[str, Any]) -> Config:
    config_path = given.pop("config", None)
    values = (_read_toml(config_path) if config_path else {}) | given
    for name in _REQUIRED:
        if not values.get(name):
            raise UsageError(f"--{name} is missing; see python -m runner predict --help")
    return make_config(values)


def _read_toml(path: str) -> dict[str, Any]:
    """The options in a TOML file, which has the names of the command line (`batch-size` or `batch_size`).

    Raises:
        UsageError: the file cannot be read, or is not TOML.
    """
    import tomllib

    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--config {path} is not TOML: {error}") from error
    return {name.replace("-", "_"): value for name, value in values.items()}


def _parse_json_object(text: str) -> Any:
    """JSON as given to --model-args.

    Raises:
        UsageError: it is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"--model-args is not JSON ({error}): {text!r}") from error


def _predict(config: Config) -> int:
    # Loading PyTorch makes so many objects that the garbage collector, which would find nothing, takes a tenth of the
    # time; and at the end of the process, unless they are frozen, it takes longer than many a job's start.
    gc.disable()
    from runner.job import run

    gc.freeze()
    gc.enable()
    try:
        report = run(config)
    finally:
        gc.freeze()
    if detect_launch().rank == 0:
        print(f"runner: {report.summary()}", flush=True)
    if report.status == "whole":
        return EXIT_WHOLE
    _leave_together()
    return EXIT_STOPPED


def _verify(given: dict[str, Any]) -> int:
    from runner.verify import verify

    print(f"runner: {verify(given['output'])}")
    return EXIT_WHOLE


def _inspect(given: dict[str, Any]) -> int:
    config = make_config({**given, "data": ()})  # there is none
    from runner.inspection import inspect_model

    print(inspect_model(config))
    return EXIT_WHOLE


def _hosts(given: dict[str, Any]) -> int:
    from runner.hosts import write_hostfile

    print(write_hostfile(given.get("hosts"), given.get("slots")), end="")
    return EXIT_WHOLE


_COMMANDS: dict[str, Callable[[Any], int]] = {
    "predict": _predict,
    "verify": _verify,
    "inspect": _inspect,
    "hosts": _hosts,
}


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m runner",
        description="Distributed batch inference: the predictions of a trained model for a whole data set, in order.",
        epilog="Put horovodrun -np N, mpirun -np N or srun before it to use N ranks.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    predict = commands.add_parser(
        "predict",
        help="run a model over a data set",
        description="Run a model over a data set. The same command goes on where a job that was ended had stopped.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    predict.add_argument("--config", metavar="PATH", help="TOML file of these options; the command line wins over it")
    verify = commands.add_parser(
        "verify", help="check a finished output against its certificate", allow_abbrev=False, description=_VERIFY
    )
    verify.add_argument("output", metavar="OUTPUT", help="what predict wrote; its records are in OUTPUT.run/")
    inspect = commands.add_parser(
        "inspect",
        help="what a model is, without running a job",
        description=_INSPECT,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    inspect.add_argument("model", metavar="MODEL", help="as predict's --model")
    for field in dataclasses.fields(Config):
        if field.name in _INSPECT_OPTIONS:
            _add_option(inspect, field)
    hosts = commands.add_parser("hosts", help="a hostfile of this allocation", allow_abbrev=False, description=_HOSTS)
    hosts.add_argument("hosts", nargs="?", metavar="HOST:SLOTS,...", help="these hosts instead")
    hosts.add_argument("--slots", type=int, metavar="N", help="ranks of each host, whatever the scheduler says")
    groups = {key: predict.add_argument_group(title) for key, title in _GROUPS.items()}
    for field in dataclasses.fields(Config):
        _add_option(groups[field.metadata["group"]], field)
    return parser


def _add_option(group: "argparse._ActionsContainer", field: "dataclasses.Field[Any]") -> None:
    option, help_text = f"--{field.name.replace('_', '-')}", field.metadata["help"]
    if field.type is bool:
        group.add_argument(option, action="store_true", help=help_text)
        return
    kind: Callable[[str], Any] = str
    if field.name == "model_args":
        kind = _parse_json_object
    elif int in (field.type, *typing.get_args(field.type)):
        kind = int
    default = "" if field.default in (None, "", (), dataclasses.MISSING) else f" (default {field.default})"
    group.add_argument(option, type=kind, metavar=field.metadata["metavar"], help=help_text + default)


def _show(error: RunnerError) -> None:
    """Print an error once: rank 0 speaks for all where every rank has it, else a rank speaks for itself."""
    launch = detect_launch()
    if launch.rank == 0:
        print(render(error), file=sys.stderr, flush=True)
    if launch.world_size == 1:
        return
    _leave_together()
    if launch.rank and not error.shared:
        error.who = error.who or f"rank {launch.rank} of {launch.world_size}"
        print(render(error), file=sys.stderr, flush=True)


def _leave_together() -> None:
    """Wait a moment, so that each rank leaves with the exit code it has, and rank 0 with its message.

    A launcher ends the other ranks, by a signal, as soon as one has left with an exit code that is not 0.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if detect_launch().world_size > 1:
        time.sleep(1.0)


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage as an exception, so that one rank prints it and the exit code is ours."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")
