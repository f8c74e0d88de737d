"""Options that say what goes through the model together, and what is done before and after."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.config.option import ANSWER, ROUNDING, SPEED, option


@dataclass(frozen=True, kw_only=True)
class BatchesOptions:
    """Options that say what goes through the model together, and what is done before and after."""

    batch_size: int = option(32, "work", "rows of one forward call", metavar="ROWS", affects=ANSWER, minimum=1)
    batch_tokens: int | None = option(
        None,
        "work",
        "for texts and lists: the most tokens of one forward call, padding included",
        metavar="TOKENS",
        affects=ROUNDING,
        minimum=1,
    )
    batch_cost: str | Callable[..., Any] | None = option(
        None,
        "work",
        "function from a batch of rows, as --preprocess gets it, to the cost of each, such as its number of atoms",
        metavar="MODULE:FUNCTION",
        affects=ROUNDING,
    )
    batch_budget: int | None = option(
        None,
        "work",
        "the largest sum of the costs of the rows of a batch, as --batch-cost gives them",
        metavar="N",
        affects=ROUNDING,
        minimum=1,
    )
    chunk_size: int | None = option(
        None,
        "work",
        "rows collected and recorded together, a multiple of the batch size",
        metavar="ROWS",
        affects=SPEED,
        minimum=1,
    )
    preprocess: str | Callable[..., Any] | None = option(
        None,
        "work",
        "function from a batch of rows (a CPU tensor; a list of them where lengths differ) to the model's input",
        metavar="MODULE:FUNCTION",
        affects=ANSWER,
    )
    truncate: str | None = option(
        None,
        "work",
        "for texts with more tokens than the model takes: truncate them at this side, or refuse them; by "
        "default as the model's tokenizer does, and prompts are refused. Truncation is counted",
        affects=ANSWER,
        choices=("left", "right", "refuse"),
    )
    postprocess: str | Callable[..., Any] | None = option(
        None,
        "work",
        "argmax, softmax, topk:K (class indices, best first) or a function from the model's output to a tensor",
        metavar="NAME|MODULE:FUNCTION",
        affects=ANSWER,
    )
    stateful: str = option(
        "refuse",
        "work",
        "for a model with another answer to the same row at the next call: refuse it, call its method "
        "reset_states, reset_state or reset before each batch, or keep its answers",
        affects=ANSWER,
        choices=("refuse", "reset", "keep"),
    )
