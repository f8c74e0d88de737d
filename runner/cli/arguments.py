"""Parser of the command line and of TOML files: arguments become a Config and the options of each command."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.cli.parser import TAKE_PREDICTS, make_parser
from runner.config.options import Config, make_config
from runner.config.removed import REMOVED, refuse_removed
from runner.core.errors import UsageError
from runner.core.nearest import nearest_name

_REQUIRED = ("model", "data", "output")


@dataclass(frozen=True)
class Command:
    """A command and its options.

    Attributes:
        name: name of the command, such as "predict".
        given: the command's own options, by name.
        predict: the arguments of `predict` among its own, unparsed; only for commands that take them.
    """

    name: str
    given: dict[str, Any]
    predict: tuple[str, ...] = ()


def parse(arguments: Sequence[str] | None) -> Command:
    """Return the command in the words that follow `hvd-runner`; None stands for those of this process.

    Raises:
        UsageError: the arguments are wrong; the error is shared, as every rank has the same arguments.
    """
    try:
        parser = make_parser()
        namespace, others = parser.parse_known_args(arguments)
        given = vars(namespace)
        name = given.pop("command")
        if others and name not in TAKE_PREDICTS:
            for word in others:
                refuse_removed(word)
            parser.error(f"unrecognized arguments: {' '.join(others)}{_nearest(others)}")
        return Command(name, given, tuple(others))
    except UsageError as error:
        error.shared = True
        raise


def _nearest(words: Sequence[str]) -> str:
    """Return which options the user may have meant, in words; empty where none is near."""
    known = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Config)]
    found = [near for word in words if (near := nearest_name(word.partition("=")[0], known))]
    return f"; did you mean {' '.join(found)}?" if found else ""


def predict_options(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options of `predict` from its arguments and its TOML file, without checking their values.

    Raises:
        UsageError: an argument is unknown, or the file cannot be read; the error is shared.
    """
    return _with_config(parse(["predict", *arguments]).given)


def make_predict_config(given: dict[str, Any]) -> Config:
    """Return the Config of a job, made from options by name.

    Raises:
        UsageError: an option is missing or wrong; the error is shared.
    """
    try:
        values = _with_config(given)
        for name in _REQUIRED:
            if not values.get(name):
                raise UsageError(f"--{name} is missing; see hvd-runner predict --help")
        return make_config(values)
    except UsageError as error:
        error.shared = True
        raise


def _with_config(given: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in given.items() if name != "config"}
    return (_read_toml(given["config"]) if given.get("config") else {}) | own


def _read_toml(path: str) -> dict[str, Any]:
    """Read the options in a TOML file; names are those of the command line (`batch-size` or `batch_size`).

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
    options = {name.replace("-", "_"): value for name, value in values.items()}
    for name in ("model_args", "data_args"):
        if isinstance(text := options.get(name), str):  # as records have values with a null
            try:
                options[name] = json.loads(text)
            except ValueError as error:
                raise UsageError(f"--config {path}: {name} is no JSON: {error}") from error
    # the record of a run by an earlier version has options that are gone, most of them not set
    return {name: value for name, value in options.items() if value or name not in REMOVED}
