"""Checks of the options of a job, each by itself and together; they open nothing."""

import dataclasses
from typing import TYPE_CHECKING

from runner.config.checks import (
    check_choice,
    check_metrics,
    check_minimum,
    check_postprocess,
    multiples_near,
    split_type,
)
from runner.config.constants import check_constants
from runner.config.formats import find_output_format
from runner.config.paths import is_path
from runner.core.errors import UsageError
from runner.core.imports import split_spec
from runner.core.secrets import HIDDEN

if TYPE_CHECKING:
    from runner.config.options import Config


def validate(config: "Config") -> None:
    """Raise UsageError where an option has a value that is not allowed, or two cannot be combined."""
    _check_secrets(config)
    _check_functions(config)
    for field in dataclasses.fields(config):
        _check_field(config, field)
    _check_model(config)
    _check_weights(config)
    _check_output(config)
    _check_groups(config)
    _check_batches(config)
    _check_texts(config)
    if config.stateful == "reset" and config.model_parallel > 1:
        raise UsageError("--stateful reset and --model-parallel cannot be combined")
    if config.offload is not None:
        _check_offload(config)
    if config.metrics is not None:
        check_metrics(config.metrics)


def _check_secrets(config: "Config") -> None:
    """Raise UsageError where a value comes from a record, in which secrets are hidden."""
    for name in ("model", "model_args", "weights", "data", "data_args", "output"):
        if HIDDEN in repr(value := getattr(config, name)) and isinstance(value, str | dict | list | tuple):
            raise UsageError(
                f"--{name.replace('_', '-')} holds {HIDDEN} in place of a password or token, which records do not "
                "keep: give it again"
            )


def _check_functions(config: "Config") -> None:
    for name in ("model", "data"):
        if isinstance(value := getattr(config, name), str) and not value:
            raise UsageError(f"--{name} is missing")
    for name in ("model", "preprocess", "postprocess", "batch_cost"):
        value = getattr(config, name)
        if value is not None and not isinstance(value, str) and not callable(value):
            raise UsageError(f"--{name.replace('_', '-')} must be a name or a function, not {value!r}")
    if isinstance(config.preprocess, str):
        split_spec(config.preprocess, "--preprocess")
    if isinstance(config.postprocess, str):
        check_postprocess(config.postprocess)


def _check_field(config: "Config", field: "dataclasses.Field[object]") -> None:
    """Check the value of an option by its declaration."""
    value, name = getattr(config, field.name), f"--{field.name.replace('_', '-')}"
    if field.type is bool and not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false, not {value!r}")
    if value is None and field.default is None:
        return
    if field.metadata["choices"]:
        check_choice(name, value, field.metadata["choices"])
    if field.metadata["minimum"] is not None:
        check_minimum(name, value, field.metadata["minimum"])


def _check_model(config: "Config") -> None:
    if is_path(config.model):
        if config.weights:
            raise UsageError(f"--weights belongs to a factory; {config.model} is a complete model")
    elif isinstance(config.model, str):
        split_spec(config.model, "--model")
    for option, values in (("model-args", config.model_args), ("data-args", config.data_args)):
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise UsageError(f"--{option} must be a JSON object, such as '{{\"n\": 64}}', not {values!r}")
    check_constants(config.input)
    for option, names in (("columns", config.columns), ("keep", config.keep), ("types", config.types)):
        if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
            raise UsageError(f"--{option} must be names, separated by commas, not {names!r}")
    for pair in config.types:
        split_type(pair)


def _check_output(config: "Config") -> None:
    mode = config.collect_mode
    if config.output is None:
        if not mode.moves_rows:
            raise UsageError(f"--collect {config.collect} needs an --output")
        return
    if not isinstance(config.output, str):
        raise UsageError(f"--output must be a path, not {config.output!r}")
    if "://" in config.output and "?" in config.output:
        raise UsageError(
            f"--output {config.output.partition('?')[0]}: nothing is written to a URL with a query, such as a signed "
            "one. Write to a file and send that, or name the storage itself, such as s3://BUCKET/NAME.npy"
        )
    format, _ = find_output_format(config.output)
    if not mode.moves_rows and not mode.output_is_folder and format.writer is not None:
        raise UsageError(f"--collect direct writes only .npy; for --output {config.output} use another collect mode")
    is_one_file = mode.moves_rows and not format.is_folder
    if "://" in config.output and not is_one_file:
        raise UsageError(
            f"--output {config.output}: a URL takes one file, which rank 0 writes: use allgather or alltoall"
        )
    if mode.output_is_folder and format.is_folder:
        raise UsageError(f"--collect shards does not write {config.output}; choose .npy or .parquet")


def _check_batches(config: "Config") -> None:
    _check_budget(config)
    if config.chunk_size is not None and config.chunk_size % config.batch_size:
        raise UsageError(
            f"--chunk-size {config.chunk_size} is not a multiple of --batch-size {config.batch_size}; the nearest are "
            f"{multiples_near(config.chunk_size, config.batch_size)}"
        )
    if config.verbose not in range(3):
        raise UsageError(f"--verbose must be 0, 1 or 2, not {config.verbose!r}")


def _check_texts(config: "Config") -> None:
    for name in ("prompt", "system", "messages"):
        value = getattr(config, name)
        if value is not None and (not isinstance(value, str) or not value):
            raise UsageError(f"--{name} must be text, not {value!r}")
    if config.prompt is not None:
        _exclude(config, "--prompt", ("preprocess", "stack"))
    if config.messages is not None:
        _exclude(config, "--messages", ("prompt", "system", "preprocess", "stack", "columns"))


def _exclude(config: "Config", option: str, names: tuple[str, ...]) -> None:
    """Raise UsageError where one of these is given beside an option that does not go with it."""
    for name in names:
        if getattr(config, name):
            raise UsageError(f"{option} and --{name.replace('_', '-')} cannot be combined")


def _check_weights(config: "Config") -> None:
    if config.weights is not None and not isinstance(config.weights, str):
        raise UsageError(f"--weights must be a path, not {config.weights!r}")
    for name in ("weights_key", "strip_prefix"):
        value, option = getattr(config, name), name.replace("_", "-")
        if value is not None and (not isinstance(value, str) or not value):
            raise UsageError(f"--{option} must be text, not {value!r}")
    if not isinstance(config.ignore_keys, tuple) or not all(isinstance(p, str) and p for p in config.ignore_keys):
        raise UsageError(f"--ignore-keys must be patterns, separated by commas, not {config.ignore_keys!r}")
    for name in ("weights_key", "strip_prefix", "ignore_keys"):
        if getattr(config, name) and config.weights_path is None:
            raise UsageError(f"--{name.replace('_', '-')} applies to --weights, which is missing")


def _check_groups(config: "Config") -> None:
    size, stages = config.model_parallel, config.pipeline_stages
    if size % stages:
        raise UsageError(
            f"--pipeline-stages {stages} does not divide --model-parallel {size}: each stage is held by as many ranks "
            "of a group"
        )
    if not isinstance(config.split_points, tuple) or not all(isinstance(name, str) for name in config.split_points):
        raise UsageError(f"--split-points must be names of layers, separated by commas, not {config.split_points!r}")
    if config.split_points and len(config.split_points) != stages - 1:
        raise UsageError(
            f"--split-points names the first layers of {len(config.split_points) + 1} stages, the first one's left "
            f"out; --pipeline-stages says {stages}"
        )
    if config.micro_batches is not None and stages == 1:
        raise UsageError("--micro-batches needs --pipeline-stages")


def _check_budget(config: "Config") -> None:
    if (config.batch_cost is None) != (config.batch_budget is None):
        raise UsageError("--batch-cost (of a row) and --batch-budget (of a batch) must be given together")
    if config.batch_cost is not None and config.batch_tokens is not None:
        raise UsageError("--batch-cost and --batch-tokens cannot be combined: each limits the size of a batch")
    if isinstance(config.batch_cost, str):
        split_spec(config.batch_cost, "--batch-cost")


def _check_offload(config: "Config") -> None:
    if config.model_parallel != 1:
        raise UsageError("--offload and --model-parallel cannot be combined: each is a way to hold a large model")
    shared = ("share_weights",) if config.offload == "disk" else ()
    _exclude(config, f"--offload {config.offload}", ("compile", *shared))
    if config.offload == "disk" and not is_path(config.model) and config.weights_path is None:
        raise UsageError("--offload disk reads the layers from --weights PATH.safetensors, which is missing")
