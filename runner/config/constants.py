"""Constant inputs of a model, the same in every call: a number, text, a list, or the array of a .npy file."""

import json
from collections.abc import Mapping
from typing import Any

from runner.core.errors import InputError, UsageError, describe


def parse_constant(text: str) -> tuple[str, Any]:
    """Parse `NAME=VALUE` into name and value; the value is JSON, or the path of a .npy file.

    Raises:
        UsageError: the value is neither, or there is no name.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--input {text!r} must be NAME=VALUE, such as sr=16000 or state=state.npy")
    if value.endswith(".npy"):
        return name, value
    try:
        return name, json.loads(value)
    except json.JSONDecodeError as error:
        raise UsageError(f"--input {text!r}: the value is neither JSON nor the path of a .npy file: {error}") from error


def check_constants(values: Any) -> None:
    """Raise UsageError unless the values are numbers, text, lists or arrays by name."""
    is_mapping = isinstance(values, Mapping) and all(isinstance(name, str) for name in values)
    if not is_mapping or any(
        not isinstance(v, bool | int | float | str | list) and not hasattr(v, "dtype") for v in values.values()
    ):
        raise UsageError(f"--input must be numbers, text, lists or arrays by the names of inputs, not {values!r}")


def read_constants(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by name, with the array for each path of a .npy file; called on rank 0 alone.

    Raises:
        InputError: a file cannot be read.
        UsageError: the items of a list differ in length, or an array is not of numbers.
    """
    return {name: _read(name, value) for name, value in values.items()}


def constants_to_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies the constants, for the fingerprint: values, and arrays by dtype, shape and checksum."""
    from runner.core.checksum import checksum  # it imports NumPy, which takes its time

    described = {}
    for name, value in read_constants(values).items():
        is_array = hasattr(value, "dtype")
        described[name] = f"{value.dtype} {value.shape} {checksum(value)}" if is_array else value
    return described


def _read(name: str, value: Any) -> Any:
    import numpy as np

    if isinstance(value, list):
        try:
            array = np.array(value)
        except ValueError as error:
            raise UsageError(f"--input {name}: its lists have different lengths: {error}") from error
        if array.dtype.kind == "U":
            return value
        value = array
    if isinstance(value, str) and value.endswith(".npy"):
        try:
            value = np.load(value, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"--input {name}={value}: {describe(error)}") from error
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise UsageError(f"--input {name} is of dtype {value.dtype}; numbers are needed")
        value = np.ascontiguousarray(value).reshape(value.shape)
    return value
