"""Inputs and outputs of an ONNX Runtime session: tensors, text, and the class probabilities of ZipMap."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from runner.calls.signature import Input, Signature, declared
from runner.core.errors import ModelError

_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(bfloat16)": torch.bfloat16,
    "tensor(bool)": torch.bool,
    **{
        f"tensor({sign}int{bits})": getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)
    },
}
_TEXT = "tensor(string)"
_BFLOAT16 = "tensor(bfloat16)"
_BFLOAT16_CODE = 16  # of ONNX's TensorProto


def signature_of_session(values: Sequence[Any], constants: Collection[str]) -> Signature:
    """Return the inputs of a session.

    Raises:
        ModelError: an input has a type that rows cannot have.
    """
    shapes = [tuple(size if isinstance(size, int) else None for size in value.shape) for value in values]
    inputs = []
    for value, shape in zip(values, shapes, strict=True):
        if value.type not in _DTYPES and value.type != _TEXT:
            raise ModelError(f"takes {value.name}: {value.type}; rows are numbers or text")
        known = shape if any(shapes) else None  # where no input has a shape, ONNX Runtime does not know them
        inputs.append(Input(value.name, _DTYPES.get(value.type), known, is_text=value.type == _TEXT))
    return declared(inputs, len(inputs), constants)


def check_outputs(values: Sequence[Any]) -> None:
    """Raise ModelError where an output is neither a tensor, nor text, nor class probabilities."""
    for value in values:
        if value.type not in _DTYPES and value.type != _TEXT and not _is_zipmap(value):
            raise ModelError(
                f"gives {value.name}: {value.type}; tensors, text and ZipMap's class probabilities can be written. "
                "Export it without this output"
            )


def feed_of(values: Sequence[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Convert tensors and lists of text to the values that a session takes, by name."""
    feed = {}
    for value in values:
        argument = arguments[value.name]
        if value.type == _TEXT:
            array = np.array(argument, object)
            feed[value.name] = array[:, None] if array.ndim == 1 and len(value.shape) == 2 else array
        elif value.type == _BFLOAT16:
            feed[value.name] = _bfloat16(argument)
        else:
            feed[value.name] = argument.cpu().numpy()
    return feed


def run(session: Any, feed: dict[str, Any]) -> list[Any]:
    """Run a session and return its outputs as ONNX Runtime gives them; bfloat16 outputs as tensors."""
    has_bfloat16 = any(value.type == _BFLOAT16 for value in [*session.get_inputs(), *session.get_outputs()])
    if not has_bfloat16:
        outputs: list[Any] = session.run(None, feed)
        return outputs
    from onnxruntime import OrtValue

    made = {n: OrtValue.ortvalue_from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in feed.items()}
    results = session.run_with_ort_values(None, made)
    return [
        torch.utils.dlpack.from_dlpack(value).clone() if value.data_type() == _BFLOAT16 else value.numpy()
        for value in results
    ]


def as_output(value: Any, result: Any) -> Any:
    """Convert an output to a tensor, or to a list of text.

    Raises:
        ModelError: the output is text with more than one value per row.
    """
    if isinstance(result, torch.Tensor):
        return result
    if _is_zipmap(value):
        classes = sorted(result[0]) if result else []
        return torch.tensor([[row[name] for name in classes] for row in result], dtype=torch.float32)
    if value.type == _TEXT:
        if result.ndim not in (1, 2) or (result.ndim == 2 and result.shape[1] != 1):
            raise ModelError(f"gives text of shape {result.shape} as {value.name}; one per row can be written")
        return result.reshape(-1).tolist()
    return torch.from_numpy(result)


def _is_zipmap(value: Any) -> bool:
    return value.type in ("seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))")


def _bfloat16(tensor: torch.Tensor) -> Any:
    from onnxruntime import OrtValue

    bits = tensor.cpu().contiguous().view(torch.int16).numpy().view(np.uint16)
    return OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BFLOAT16_CODE)
