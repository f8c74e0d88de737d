"""The options of one job: a frozen dataclass, checked on construction. It opens nothing."""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.batches_options import BatchesOptions
from runner.config.checks import parse_time, split_type
from runner.config.collect_modes import COLLECT_MODES, CollectMode
from runner.config.data_options import DataOptions
from runner.config.model_options import NO_WEIGHTS, ModelOptions
from runner.config.parallel_options import ParallelOptions
from runner.config.removed import refuse_removed
from runner.config.run_options import RunOptions
from runner.config.text_options import TextOptions
from runner.config.validate import validate
from runner.config.watching_options import WatchingOptions
from runner.core.errors import UsageError
from runner.core.imports import name_of
from runner.core.nearest import nearest_name
from runner.core.secrets import hide_in, remember_secrets

_LISTS = ("ignore_keys", "columns", "keep", "types", "split_points")  # options of several values


# a dataclass has the fields of its last base first
@dataclass(frozen=True, kw_only=True)
class Config(WatchingOptions, RunOptions, ParallelOptions, BatchesOptions, DataOptions, TextOptions, ModelOptions):
    """Options of one prediction job.

    On the command line every value is text or a number. In Python, `model` may also be a function that returns an
    `nn.Module`, `data` an array or tensor, and `preprocess` and `postprocess` functions.

    Raises:
        UsageError: a value is not allowed; the message names the allowed ones.
    """

    def __post_init__(self) -> None:
        remember_secrets(self.model_args)
        remember_secrets(self.data_args)
        validate(self)

    @property
    def weights_path(self) -> str | None:
        """The path of the weights; None where there are none, on purpose or not."""
        return None if self.weights == NO_WEIGHTS else self.weights

    @property
    def types_by_column(self) -> dict[str, str]:
        """The types of columns, by name."""
        return dict(split_type(pair) for pair in self.types)

    @property
    def collect_mode(self) -> CollectMode:
        """The way in which predictions reach the output."""
        return COLLECT_MODES[self.collect]

    def resolved(self) -> dict[str, Any]:
        """Return the options as plain values, without those that are not set and without secrets: `config.toml`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["data"] = self.data if isinstance(self.data, str) else name_of(self.data)
        for name in ("model", "preprocess", "postprocess", "parallel_plan", "batch_cost"):
            if values[name] is not None:
                values[name] = name_of(values[name])
        if isinstance(self.data, list | tuple) and all(isinstance(item, str | Path) for item in self.data):
            values["data"] = [str(item) for item in self.data]
        values["input"] = {
            name: v if isinstance(v, str | int | float | list) else str(v) for name, v in self.input.items()
        }
        for name in ("model_args", "data_args"):
            if "None" in repr(values[name]):  # TOML has no null, and JSON has
                values[name] = json.dumps(hide_in(values[name]), default=str)
        values |= {name: list(getattr(self, name)) or None for name in _LISTS}
        return {name.replace("_", "-"): hide_in(value) for name, value in values.items() if value is not None}


def make_config(values: dict[str, Any]) -> Config:
    """Make a Config from keyword arguments as users write them: paths may be `Path`, functions may be functions.

    Raises:
        UsageError: an option is unknown or was removed, or a value is not allowed.
    """
    known = [field.name for field in dataclasses.fields(Config)]
    for name in values:
        if name not in known:
            refuse_removed(name)
            near = nearest_name(name, known)
            hint = f"did you mean {near!r}?" if near else f"the options are {', '.join(sorted(known))}"
            raise UsageError(f"unknown option {name!r}; {hint}")
    plain: dict[str, Any] = {name: os.fspath(v) if isinstance(v, Path) else v for name, v in values.items()}
    for option in _LISTS:
        if isinstance(names := plain.get(option), str):
            plain[option] = tuple(name.strip() for name in names.split(","))
        elif isinstance(names, list):
            plain[option] = tuple(names)
    if "time_limit" in plain:
        plain["time_limit"] = parse_time("--time-limit", plain["time_limit"])
    if isinstance(pairs := plain.get("input"), list):  # of the command line
        plain["input"] = dict(pairs)
    return Config(**plain)
