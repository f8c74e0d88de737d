"""Whether the files of a job are there, before it waits in a queue to find that they are not."""

from pathlib import Path

from runner.config.options import Config
from runner.core.errors import UsageError
from runner.core.urls import is_url
from runner.records.ownership import find_files, named_inputs


def check_inputs(config: Config) -> None:
    """Check that the model, weights, data and the folder of the output exist; what is behind a URL is not looked for.

    Raises:
        UsageError: one of them is missing; the message names it.
    """
    for option, value in named_inputs(config):
        if isinstance(value, str) and not find_files(value):
            path = value.partition("::")[0]
            if not _is_elsewhere(path):
                raise UsageError(
                    f"{option} {path}: no such file or folder here; the job would fail as soon as it starts"
                )
    output = str(config.output)
    if not is_url(output) and not Path(output).resolve().parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {Path(output).parent}; make it first")


def _is_elsewhere(path: str) -> bool:
    """Return whether this is a URL, or the name of a function: package.module:name."""
    return is_url(path) or (":" in path and "/" not in path)
