"""Options that say what the model is, and how it is loaded and called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.config.option import ANSWER, NOTHING, SPEED, option


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options that say what the model is, and how it is loaded and called."""

    model: str | Callable[..., Any] = option(
        "",
        "model",
        "function or class that returns an nn.Module or another callable; or a whole model: TorchScript (.pt), "
        "torch.export (.pt2), ONNX (.onnx), under any suffix, or a Hugging Face folder",
        metavar="MODULE:FACTORY|PATH",
        affects=ANSWER,
    )
    model_args: dict[str, Any] = option(
        {}, "model", "keyword arguments of the factory, a JSON object", metavar="JSON", affects=ANSWER
    )
    weights: str | None = option(
        None,
        "model",
        "state dict or checkpoint: safetensors, or what torch.save writes, or the .index.json of several; rank 0 "
        "alone reads it",
        metavar="PATH",
        affects=ANSWER,
    )
    weights_key: str | None = option(
        None,
        "model",
        "entry of the checkpoint that is the state dict, keys joined by dots",
        metavar="KEY",
        affects=ANSWER,
    )
    strip_prefix: str | None = option(
        None,
        "model",
        "take this from the beginning of the names of tensors; others have no place in the model",
        metavar="PREFIX",
        affects=ANSWER,
    )
    ignore_keys: tuple[str, ...] = option(
        (),
        "model",
        "leave out tensors of the file that the model does not have, by patterns such as loss.*",
        metavar="NAME,...",
        affects=ANSWER,
    )
    trust_pickle: bool = option(
        False,
        "model",
        "let pickled code in model and weights run: only where you trust whoever made them",
        affects=NOTHING,
    )
    trust_code: bool = option(
        False,
        "model",
        "let Python code in a Hugging Face folder run: only where you trust whoever made it",
        affects=NOTHING,
    )
    dtype: str | None = option(
        None,
        "model",
        "of a module's weights and its inputs; by default as they are",
        affects=ANSWER,
        choices=("float32", "bfloat16", "float16"),
    )
    channels_last: bool = option(
        False, "model", "lay out a module and its images channel by channel last", affects=ANSWER
    )
    quantize: str | None = option(
        None,
        "model",
        "compute linear and recurrent layers with whole numbers of 8 bits; on the CPU",
        affects=ANSWER,
        choices=("int8",),
    )
    compile: bool = option(
        False, "model", "let torch.compile make a module faster; takes its time at the start", affects=ANSWER
    )
    share_weights: bool = option(
        False,
        "model",
        "keep a module's weights once a host, for all of its ranks, instead of once a rank; on the CPU",
        affects=SPEED,
    )
    stack: bool = option(False, "model", "make one matrix (rows, columns) of columns of numbers", affects=ANSWER)
    input: dict[str, Any] = option(
        {},
        "model",
        "a value for an input, the same in every call: JSON, or the path of a .npy file; may be repeated",
        metavar="NAME=VALUE",
        affects=ANSWER,
    )
