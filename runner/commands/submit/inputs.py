"""Whether the files of a job are there, before it waits in a queue to find that they are not."""

import glob
import os
from pathlib import Path

from runner.config.options import Config
from runner.config.paths import is_path
from runner.core.errors import UsageError
from runner.core.urls import is_url


def check_inputs(config: Config) -> None:
    """Check that the model, weights, data and the folder of the output exist; what is behind a URL is not looked for.

    Raises:
        UsageError: one of them is missing; the message names it.
    """
    wanted: list[tuple[str, object]] = [("--weights", config.weights_path)]
    if is_path(config.model):
        wanted.append(("--model", config.model))
    wanted += [("--data", data) for data in _paths(config.data)]
    for option, path in wanted:
        if isinstance(path, str) and not _is_elsewhere(path) and not os.path.exists(path) and not glob.glob(path):
            raise UsageError(f"{option} {path}: no such file or folder here; the job would fail as soon as it starts")
    output = str(config.output)
    if not is_url(output) and not Path(output).resolve().parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {Path(output).parent}; make it first")


def _paths(data: object) -> list[str]:
    given = data if isinstance(data, list | tuple) else [data]
    return [str(item).partition("::")[0] for item in given]


def _is_elsewhere(path: str) -> bool:
    """Return whether this is a URL, or the name of a function: package.module:name."""
    return is_url(path) or (":" in path and "/" not in path)
