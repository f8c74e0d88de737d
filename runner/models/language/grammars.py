"""Answers that follow a JSON schema, a regular expression or a grammar, by llguidance."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from runner.core.imports import import_extra

EXTRA = "structured"
KINDS = ("json_schema", "regex", "choice", "grammar")


def grammar_of(kind: str, value: Any, tokenizer: Any) -> str:
    """Return a grammar as llguidance holds it.

    Args:
        kind: of KINDS.
        value: a JSON schema, a regular expression, a list of texts, or a grammar in the language of Lark.
        tokenizer: tokenizer of Transformers.

    Raises:
        UsageError: llguidance is missing.
        ValueError: it is not valid.
    """
    library = import_extra("llguidance", f'"{kind}"', EXTRA)
    matcher = library.LLMatcher
    _check(kind, value)
    try:
        if kind == "json_schema":
            grammar = matcher.grammar_from_json_schema(value if isinstance(value, str) else json.dumps(value))
        elif kind == "regex":
            grammar = matcher.grammar_from_regex(value)
        elif kind == "choice":
            grammar = matcher.grammar_from_lark("start: " + " | ".join(json.dumps(text) for text in value))
        else:
            grammar = matcher.grammar_from_lark(value)
    except TypeError as error:
        raise ValueError(f"{kind} {value!r} is not valid") from error
    if why := matcher.validate_grammar(grammar, _wrapped(tokenizer, len(tokenizer), ())):
        raise ValueError(f"{kind}: {why.splitlines()[0]}")
    return str(grammar)


def _check(kind: str, value: Any) -> None:
    """Raise ValueError where a value is of a type that its kind does not have."""
    if kind == "choice":
        if not isinstance(value, list) or not value or not all(isinstance(text, str) and text for text in value):
            raise ValueError(f"choice must be a list of texts, not {value!r}")
    elif not isinstance(value, str if kind != "json_schema" else (dict, str, bool)):
        raise ValueError(f"{kind} must be {'an object' if kind == 'json_schema' else 'text'}, not {value!r}")


class GrammarProcessor:
    """A logits processor that excludes the tokens that break a grammar, for one row.

    Args:
        grammar: see `grammar_of`.
        tokenizer: tokenizer of Transformers.
        ends: tokens that end an answer.
        start: number of tokens before the answer.
    """

    def __init__(self, grammar: str, tokenizer: Any, ends: Sequence[int], start: int) -> None:
        self._grammar = grammar
        self._tokenizer = tokenizer
        self._ends = tuple(ends)
        self._seen = start
        self._matcher: Any = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._matcher is None:
            library = import_extra("llguidance", "a grammar", EXTRA)
            self._matcher = library.LLMatcher(_wrapped(self._tokenizer, scores.shape[1], self._ends), self._grammar)
        self._matcher.consume_tokens(input_ids[0, self._seen :].tolist())
        self._seen = input_ids.shape[1]
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():  # other settings have excluded what it allows
            return torch.full_like(scores, -torch.inf)
        allowed = np.unpackbits(bits, bitorder="little", count=scores.shape[1]).astype(bool)
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)


@functools.lru_cache(maxsize=8)  # making one takes about a second
def _wrapped(tokenizer: Any, size: int, ends: tuple[int, ...]) -> Any:
    """Return a tokenizer as llguidance needs it."""
    from llguidance.hf import from_tokenizer

    return from_tokenizer(tokenizer, n_vocab=size, eos_token=list(ends) or None)


def wanted(fields: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return the kind and value of the grammar that some fields ask for; None where they ask for none.

    Raises:
        ValueError: they ask for several.
    """
    asked = [(kind, fields[kind]) for kind in KINDS if fields.get(kind) is not None]
    if len(asked) > 1:
        raise ValueError(f"{' and '.join(kind for kind, _ in asked)} cannot be combined")
    return asked[0] if asked else None
