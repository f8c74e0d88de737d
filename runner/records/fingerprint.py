"""Fingerprint of a run: tells a resume from another job."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.config.constants import constants_to_json
from runner.config.option import ANSWER, ROUNDING
from runner.config.options import Config
from runner.config.paths import is_path
from runner.core.imports import name_of
from runner.core.secrets import hide_in
from runner.host.devices import device_kind
from runner.host.versions import RUNNER, installed_versions
from runner.models.weights.files import digest_settings
from runner.sources import Source

_LATER = ("data", "weights", "skip", "limit")  # in the fingerprint by what they name: digests and numbers of rows


def fingerprint_of_options(config: Config, source: Source, digest: str) -> dict[str, Any]:
    """Return what must stay the same between a run and its resume, as far as it is known before the model is built.

    That is every option that affects the answer or its rounding, by its declaration.

    Args:
        config, source: the options and the data set.
        digest: the data set's `digest()`.
    """
    options = {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.metadata["affects"] in (ANSWER, ROUNDING) and field.name not in _LATER
    }
    return options | {
        "num_rows": source.num_rows,
        "data": digest,
        "model_settings": _model_settings(config),
        "input": constants_to_json(config.input),
        "ignore_keys": list(config.ignore_keys) or None,
        "types": list(config.types) or None,  # in records of earlier versions it is missing, as null and data_args are
        "data_args": _plain(config.data_args) or None,
        "output": "folder" if config.collect_mode.output_is_folder else "file",
        "device": device_kind(config),
        "quantize": None,  # an option of former versions, with other answers: such a run is not resumed
    }


def origin_of(fingerprint: Mapping[str, Any]) -> dict[str, str]:
    """Return what an output says of its origin: only what is alike in all jobs of the run, whatever their ranks.

    Args:
        fingerprint: all fields, as the ledger has them.
    """
    origin = {
        "model": fingerprint["model"],
        "weights_digest": fingerprint["weights"],
        "data_digest": fingerprint["data"],
        "runner_version": installed_versions().get(RUNNER),
    }
    return {name: str(value) for name, value in origin.items() if value is not None}


def _plain(value: Any) -> Any:
    """Return the value of an option as JSON: functions by name, several names as a list."""
    if isinstance(value, tuple):
        return list(value)
    return hide_in(name_of(value) if callable(value) else value, checksums=True)


def _model_settings(config: Config) -> str | None:
    if is_path(config.model) and os.path.isdir(config.model):
        return digest_settings(Path(config.model))
    return None
