"""The arguments of the command line, and TOML, to a Config and what else a command takes."""

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.cli.parser import TAKE_PREDICTS, make_parser
from runner.config.options import Config, make_config
from runner.core.errors import UsageError

_REQUIRED = ("model", "data", "output")


@dataclass(frozen=True)
class Command:
    """A command and what it is given.

    Attributes:
        name: such as "predict".
        given: its own options, by name.
        predict: the options of `predict` among its arguments, as they were given; only for commands that take them.
    """

    name: str
    given: dict[str, Any]
    predict: tuple[str, ...] = ()


def parse(arguments: Sequence[str] | None) -> Command:
    """A command from the words that follow `python -m runner`; None for those of this process.

    Raises:
        UsageError: they are not as they should be; it is shared, as every rank has the same ones.
    """
    try:
        parser = make_parser()
        namespace, others = parser.parse_known_args(arguments)
        given = vars(namespace)
        name = given.pop("command")
        if others and name not in TAKE_PREDICTS:
            parser.error(f"unrecognized arguments: {' '.join(others)}{_nearest(others)}")
        return Command(name, given, tuple(others))
    except UsageError as error:
        error.shared = True
        raise


def _nearest(words: Sequence[str]) -> str:
    """Return which options the user may have meant, in words; empty where none is near."""
    known = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Config)]
    found = [match for word in words for match in difflib.get_close_matches(word.partition("=")[0], known, 1)]
    return f"; did you mean {' '.join(found)}?" if found else ""


def predict_options(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of `predict` from its arguments, those of its TOML file included; as they are, not checked.

    Raises:
        UsageError: an argument is unknown, or the file cannot be read; shared.
    """
    return _with_config(parse(["predict", *arguments]).given)


def make_predict_config(given: dict[str, Any]) -> Config:
    """The Config of a job, from options by name.

    Raises:
        UsageError: one is missing or not as it should be; shared.
    """
    try:
        values = _with_config(given)
        for name in _REQUIRED:
            if not values.get(name):
                raise UsageError(f"--{name} is missing; see python -m runner predict --help")
        return make_config(values)
    except UsageError as error:
        error.shared = True
        raise


def _with_config(given: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in given.items() if name != "config"}
    return (_read_toml(given["config"]) if given.get("config") else {}) | own


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
