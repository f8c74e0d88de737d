"""The declaration of one option, with its consequences."""

import dataclasses
from typing import Any

# what an option affects: the predictions; their last bits alone; how fast they come; none of these
ANSWER = "answer"
ROUNDING = "rounding"
SPEED = "speed"
NOTHING = "nothing"


def option(
    default: Any,
    group: str,
    help: str,
    *,
    affects: str,
    metavar: str = "",
    choices: tuple[str, ...] = (),
    minimum: int | None = None,
) -> Any:
    """Declare a field of a dataclass that is also a command-line option and a key of the TOML file.

    Args:
        default: its value where it is not given.
        group: of `--help`; see `runner.cli.arguments`.
        help: what it does.
        affects: ANSWER and ROUNDING are part of the fingerprint of a run; jobs that differ in an ANSWER are not the
            same work; NOTHING tells no two jobs apart.
        metavar: the form of its value.
        choices: its values, where it has few.
        minimum: the smallest value of a whole number.
    """
    metadata = {
        "group": group,
        "help": help,
        "metavar": metavar or "|".join(choices),
        "affects": affects,
        "choices": choices,
        "minimum": minimum,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
