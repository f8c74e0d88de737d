"""Script with which a shell completes the command line; shtab makes it, and no Python starts at each press of TAB."""

import argparse
import dataclasses

from runner.cli.parser import TAKE_PREDICTS, add_predict, make_parser
from runner.config.options import Config
from runner.core.imports import import_extra

PROGRAM = "hvd-runner"
_CHOICES = {field.name: field.metadata["choices"] for field in dataclasses.fields(Config)}
_PATHS = ("OUTPUT", "MODEL")  # arguments that may be files; and all with PATH in their metavar


def completion_script(shell: str) -> str:
    """Return the script for a shell: commands, options, their few values, and files where a path is meant.

    Args:
        shell: "bash" or "zsh".

    Raises:
        UsageError: shtab is missing.
    """
    shtab = import_extra("shtab", "--print-completion", "completion")
    parser = make_parser(PROGRAM)
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        if name in TAKE_PREDICTS:
            add_predict(command)
        for action in command._actions:
            if action.dest in _CHOICES and action.option_strings:
                action.choices = action.choices or _CHOICES[action.dest] or None
            if "PATH" in str(action.metavar) or action.metavar in _PATHS:
                action.complete = shtab.FILE
    script: str = shtab.complete(parser, shell)
    return script
