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
        "function from a batch of rows, as --preprocess gets it, to what each costs, such as atoms: a number a row",
        metavar="MODULE:FUNCTION",
        affects=ROUNDING,
    )
    batch_budget: int | None = option(
        None,
        "work",
        "the most that the rows of one forward call cost together",
        metavar="N",
        affects=ROUNDING,
        minimum=1,
    )
    chunk_size: int | None = option(
        None,
        "work",
        "rows that are handed over and recorded together, a multiple of the batch size",
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
        "for texts with more tokens than the model takes: cut them at this side, or refuse them; by default as "
        "the model's tokenizer does. What is cut is counted",
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
        "for a model that gives another answer when it is called again: refuse it, call its method reset_states, "
        "reset_state or reset before each batch, or keep its answers as they are",
        affects=ANSWER,
        choices=("refuse", "reset", "keep"),
    )
