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
        "load the layers of a module that is larger than the memory when they are called: to a GPU from the "
        "host's memory, or from .safetensors on disk; slow",
        affects=SPEED,
        choices=("memory", "disk"),
    )
    model_parallel: int = option(
        1,
        "model",
        "number of ranks that hold one replica of a module together; such groups share the data",
        metavar="M",
        affects=ROUNDING,
        minimum=1,
    )
    parallel_plan: str | Callable[..., Any] | None = option(
        None,
        "model",
        "function from the module to the plan of its split: styles of torch.distributed.tensor.parallel by layer name",
        metavar="MODULE:FUNCTION",
        affects=ROUNDING,
    )
    pipeline_stages: int = option(
        1,
        "model",
        "number of pipeline stages, each held by M / P ranks of a group",
        metavar="P",
        affects=ROUNDING,
        minimum=1,
    )
    split_points: tuple[str, ...] = option(
        (),
        "model",
        "first layers of the second and later stages; by default for stages of equal bytes",
        metavar="NAME,...",
        affects=ROUNDING,
    )
    micro_batches: int | None = option(
        None,
        "model",
        "with --pipeline-stages P, the parts into which a batch is cut for the stages; by default 4 P",
        metavar="N",
        affects=ROUNDING,
        minimum=1,
    )
