"""Options of former versions, and what to do instead."""

from runner.core.errors import UsageError

REMOVED = {
    "canary": "every job compares the canary at its end. Leave it out",
    "metrics_file": "give --metrics PATH.prom",
    "metrics_port": "give --metrics PORT",
    "quantize": "with it, the answer to a row depended on the other rows of its batch, and PyTorch's part of it is "
    "deprecated. Quantize the module in the factory, give a quantized Hugging Face folder, or --dtype bfloat16",
}


def refuse_removed(name: str) -> None:
    """Raise UsageError where a name, in any spelling, is that of a removed option."""
    option = name.partition("=")[0].removeprefix("--").replace("-", "_")
    if option in REMOVED:
        raise UsageError(f"--{option.replace('_', '-')} was removed: {REMOVED[option]}")
