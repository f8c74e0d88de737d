"""Options that print something and end the command."""

import argparse
from typing import Any


class ShowVersions(argparse.Action):
    """Prints the versions, which take their time to find, and ends the command."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from runner.host.versions import versions

        found = versions()
        print(f"hvd-runner {found.pop('runner')}: {', '.join(f'{name} {text}' for name, text in found.items())}")
        parser.exit()


class PrintCompletion(argparse.Action):
    """Prints the completion script of a shell, and ends the command."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        from runner.cli.completion import completion_script

        print(completion_script(values))
        parser.exit()
