"""Options for models that one rank cannot hold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.config.option import ROUNDING, SPEED, option


@dataclass(frozen=True, kw_only=True)
class ParallelOptions:
    """Options for models that one rank cannot hold."""

    offload: str | None = option(
        None,
        "model",
        "let the layers of a module that is larger than the memory come when they are called: to a GPU from the "
        "host's memory, or from .safetensors on disk; slow",
        affects=SPEED,
        choices=("memory", "disk"),
    )
    model_parallel: int = option(
        1,
        "model",
        "ranks that hold one replica of a module together, each a part of it; the others share the data",
        metavar="M",
        affects=ROUNDING,
        minimum=1,
    )
    parallel_plan: str | Callable[..., Any] | None = option(
        None,
        "model",
        "function from the module to how its layers are split: styles of torch.distributed.tensor.parallel by name",
        metavar="MODULE:FUNCTION",
        affects=ROUNDING,
    )
    pipeline_stages: int = option(
        1,
        "model",
        "stages of so many layers after layers, each held by M / P of those ranks",
        metavar="P",
        affects=ROUNDING,
        minimum=1,
    )
    split_points: tuple[str, ...] = option(
        (),
        "model",
        "the layers at which a stage begins; by default such that stages have equal bytes",
        metavar="NAME,...",
        affects=ROUNDING,
    )
    micro_batches: int | None = option(
        None,
        "model",
        "parts of a batch that follow one another through the stages; by default 4 P",
        metavar="N",
        affects=ROUNDING,
        minimum=1,
    )
