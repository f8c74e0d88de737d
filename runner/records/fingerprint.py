"""Fingerprint of a run: tells a resume from another job, and a rank that sees other data from the rest."""

import os
from pathlib import Path
from typing import Any

from runner.config.constants import constants_to_json
from runner.config.options import Config, is_path
from runner.core.errors import InputError
from runner.core.imports import name_of
from runner.data.rows import in_words
from runner.host.devices import device_kind
from runner.models.weights.files import digest_settings
from runner.sources import Source


def fingerprint_of_options(config: Config, source: Source) -> dict[str, Any]:
    """Return the values that must stay the same in a run and its resume, as far as known before the model is built."""
    return {
        "num_rows": source.num_rows,
        "data": source.digest(),
        "columns": list(config.columns),
        "keep": list(config.keep),
        "model": name_of(config.model),
        "model_args": config.model_args,
        "model_settings": _model_settings(config),
        "weights_key": config.weights_key,
        "strip_prefix": config.strip_prefix,
        "ignore_keys": list(config.ignore_keys) or None,
        "preprocess": config.preprocess and name_of(config.preprocess),
        "postprocess": config.postprocess and name_of(config.postprocess),
        "truncate": config.truncate,
        "dtype": config.dtype,
        "stack": config.stack,
        "input": constants_to_json(config.input),
        "channels_last": config.channels_last,
        "quantize": config.quantize,
        "compile": config.compile,
        "model_parallel": config.model_parallel,
        "parallel_plan": config.parallel_plan and name_of(config.parallel_plan),
        "pipeline_stages": config.pipeline_stages,
        "split_points": list(config.split_points),
        "micro_batches": config.micro_batches,
        "batch_size": config.batch_size,
        "batch_tokens": config.batch_tokens,
        "batch_cost": config.batch_cost and name_of(config.batch_cost),
        "batch_budget": config.batch_budget,
        "output": "folder" if config.collect == "shards" else "file",
        "on_nonfinite": config.on_nonfinite,
        "stateful": config.stateful,
        "device": device_kind(config),
    }


def _model_settings(config: Config) -> str | None:
    if isinstance(config.model, str) and is_path(config.model) and os.path.isdir(config.model):
        return digest_settings(Path(config.model))
    return None


def check_same(config: Config, source: Source, rank_0: tuple[Any, ...]) -> None:
    """Raise InputError if this rank's `shape_of` differs from that of rank 0."""
    here = shape_of(config, source)
    if here != rank_0:
        raise InputError(f"not the same data or kind of device as on rank 0: {here} here, {rank_0} there")


def shape_of(config: Config, source: Source) -> tuple[Any, ...]:
    """Return what every rank must see alike: number of rows, row type, kind of device."""
    return source.num_rows, in_words(source.row_type), device_kind(config)
