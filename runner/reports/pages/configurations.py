"""Configurations of several runs: which options differ, what each configuration is called, and how it scales."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from runner.config.option import NOTHING
from runner.config.options import Config
from runner.reports.pages.page import Values
from runner.reports.pages.values import UNKNOWN, Fields

_MOST_NAMED = 6  # configurations in a sentence
_LONGEST = 60  # letters of a value in it


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


# Options that matter to predictions or speed, with their defaults: a record may be older than an option.
_DEFAULTS = {
    field.name.replace("_", "-"): _default(field)
    for field in dataclasses.fields(Config)
    if field.metadata["affects"] != NOTHING
} | {"quantize": None}  # an option of former versions


def find_configurations(runs: Sequence[Values]) -> list[str]:
    """Give each run the letter of its configuration, runs of equal options the same one, and its unequal options.

    Returns:
        The options that differ.
    """
    options = [{name: _text(run["options"], name) for name in _DEFAULTS} for run in runs]
    names = [name for name in _DEFAULTS if len({each[name] for each in options}) > 1]
    distinct: list[dict[str, str]] = []
    for run, each in zip(runs, options, strict=True):
        differing = {name: each[name] for name in names}
        distinct += [] if differing in distinct else [differing]
        number = distinct.index(differing)
        run |= {
            "differing": differing,
            "work": number,
            "config": chr(ord("A") + number) if number < 26 else str(number + 1),
        }
    return names


def measure_scaling(runs: Sequence[Values]) -> None:
    """Give each run its speed-up over the run of its configuration with the fewest ranks; NaN where none has more."""
    for run in runs:
        alike = [other for other in runs if other["work"] == run["work"] and other["ranks"] > 0 and other["speed"] > 0]
        base = min(alike, key=lambda other: other["ranks"], default=None)
        if base is None or len({other["ranks"] for other in alike}) == 1:
            base = {"name": "", "ranks": math.nan, "speed": math.nan}
        speedup = run["speed"] / base["speed"]
        efficiency = speedup * base["ranks"] / (run["ranks"] or math.nan)
        run |= {"base": base, "speedup": speedup, "efficiency": efficiency}


def named_configurations(runs: Sequence[Values]) -> str:
    """Name each configuration with the options that tell it from others; a few, or else their number."""
    named = {run["config"]: run["differing"].items() for run in sorted(runs, key=lambda run: int(run["work"]))}
    if len(named) > _MOST_NAMED:
        return f"{len(named)} configurations"
    told = {config: ", ".join(f"--{name} {_short(value)}" for name, value in each) for config, each in named.items()}
    return ", ".join(f"{config} ({options})" for config, options in told.items())


def _text(options: Fields, name: str) -> str:
    if not options:
        return UNKNOWN
    value = options.get(name, _DEFAULTS[name])
    is_none = value is None
    return value if isinstance(value, str) else "none" if is_none else json.dumps(value, default=str, sort_keys=True)


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
