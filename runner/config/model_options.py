"""Options that say what the model is, and how it is loaded and called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.config.option import ANSWER, NOTHING, SPEED, option

NO_WEIGHTS = "none"  # a file of this name is ./none


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options that say what the model is, and how it is loaded and called."""

    model: str | Callable[..., Any] = option(
        "",
        "model",
        "function or class that returns an nn.Module or another callable; or a complete model: a file of "
        "TorchScript, torch.export or ONNX, or a folder of Transformers, sentence-transformers or timm",
        metavar="MODULE:FACTORY|PATH",
        affects=ANSWER,
    )
    model_args: dict[str, Any] = option(
        {},
        "model",
        "arguments of the factory, or options of a model folder: a JSON object",
        metavar="JSON",
        affects=ANSWER,
    )
    weights: str | None = option(
        None,
        "model",
        "state dict or checkpoint: safetensors, or what torch.save writes, or the .index.json of several "
        "files; rank 0 alone reads it; none: the factory's own values are meant",
        metavar="PATH|none",
        affects=ANSWER,
    )
    weights_key: str | None = option(
        None,
        "model",
        "entry of the checkpoint with the state dict, keys joined by dots",
        metavar="KEY",
        affects=ANSWER,
    )
    strip_prefix: str | None = option(
        None,
        "model",
        "remove this prefix from the names of tensors; tensors without it do not belong to the model",
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
        "run code in model and weights files, such as pickles, TorchScript and .pt2: only if you trust their author",
        affects=NOTHING,
    )
    trust_code: bool = option(
        False,
        "model",
        "run Python code shipped with a Hugging Face model: only if you trust its author",
        affects=NOTHING,
    )
    dtype: str | None = option(
        None,
        "model",
        "dtype of a module's weights and its inputs; by default unchanged",
        affects=ANSWER,
        choices=("float32", "bfloat16", "float16"),
    )
    channels_last: bool = option(
        False, "model", "use the channels-last memory format for a module and its images", affects=ANSWER
    )
    compile: bool = option(False, "model", "compile a module with torch.compile; slower start", affects=ANSWER)
    share_weights: bool = option(
        False,
        "model",
        "hold a module's weights once per host instead of once per rank; on the CPU",
        affects=SPEED,
    )
    stack: bool = option(False, "model", "stack columns of numbers into one matrix (rows, columns)", affects=ANSWER)
    input: dict[str, Any] = option(
        {},
        "model",
        "constant value of an input: JSON, or the path of a .npy file; may be repeated",
        metavar="NAME=VALUE",
        affects=ANSWER,
    )
