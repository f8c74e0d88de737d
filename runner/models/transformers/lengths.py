"""Selection of rows that a Transformers model may compute in one batch without one row affecting another.

Most models ignore padding by means of a mask; some do not support the mask, and some mix the rows of a batch. The kind
of a model is found by trial with made-up rows: the output for a row alone must not change when another is beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from runner.data.tensors import RaggedTensor

PADDED = "padded"
BY_LENGTH = "by length"
ALONE = "alone"
# Numbers of tokens of the trial rows. With a convolution, padding reaches the first token of very short rows only; but
# some models reject rows as short as that.
_SHORT = (7, 2, 1)
_LONG = 12
# the largest allowed difference, relative to the output's largest number: rounding stays below, padding is above
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-4}
_COARSE_ROUNDING = 3e-2


def call_apart(call: Callable[..., Any], way: str, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Call a function with rows of one length at a time, or with one row at a time.

    Args:
        call: maps tensors by name, including `attention_mask`, to outputs: tensors, `RaggedTensor`s, or several of
            these by name.
        way: BY_LENGTH or ALONE.
        tensors: arguments of the call. By `attention_mask`, `(batch, length)`, the tokens are at the beginning of a
            row. Tensors of its shape are cut to the length of the rows.

    Returns:
        The outputs for all rows, in their order.
    """
    mask = tensors["attention_mask"]
    lengths = mask.long().sum(dim=1)
    groups = [[row] for row in range(len(mask))]
    if way == BY_LENGTH:
        groups = [(lengths == length).nonzero()[:, 0].tolist() for length in torch.unique(lengths).tolist()]
    results = []
    for rows in groups:
        length = int(lengths[rows[0]])
        some = {n: t[rows, :length] if t.shape[:2] == mask.shape else t[rows] for n, t in tensors.items()}
        results.append(call(**{**some, "attention_mask": some["attention_mask"].long()}))
    order = torch.tensor([row for rows in groups for row in rows], device=mask.device)
    return _together(results, torch.argsort(order))


def _together(parts: list[Any], places: torch.Tensor) -> Any:
    """Concatenate the outputs of all parts and reorder the rows by `places`."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: _together([part[name] for part in parts], places) for name in first}
    if isinstance(first, RaggedTensor):
        rows = [row for part in parts for row in torch.split(part.values, part.lengths.tolist())]
        lengths = torch.cat([part.lengths for part in parts])
        return RaggedTensor(torch.cat([rows[place] for place in places.tolist()]), lengths[places])
    return torch.cat(parts)[places]


def find_way(answer: Callable[..., torch.Tensor], ways: Sequence[str], num_tokens: int, device: torch.device) -> str:
    """Return the first of these ways in which a row's output does not depend on other rows; ALONE where none is.

    Args:
        answer: maps `input_ids` and `attention_mask`, `(batch, length)`, with tokens at the beginning of a row, to
            `(batch, length, ...)` or another tensor with the rows first.
        ways: PADDED and BY_LENGTH, or BY_LENGTH alone.
        num_tokens: size of the vocabulary.
        device: device of the model.
    """
    ids = torch.arange(2 * _LONG, device=device).reshape(2, _LONG) * 3 % num_tokens
    left = list(ways)
    for short in _SHORT:
        try:
            alone = answer(input_ids=ids[:1, :short], attention_mask=torch.ones_like(ids[:1, :short]))
        except Exception:
            if short == max(_SHORT):  # nothing is known about the model, so nothing is padded
                return BY_LENGTH
            continue
        rounding = _ROUNDING.get(alone.dtype, _COARSE_ROUNDING)
        while left and not _is_right(answer, left[0], ids, alone, short, rounding):
            left.pop(0)
    return left[0] if left else ALONE


def _is_right(
    answer: Callable[..., torch.Tensor], way: str, ids: torch.Tensor, alone: torch.Tensor, short: int, rounding: float
) -> bool:
    """Return whether the output for the first `short` tokens of a row, beside another row, equals `alone`."""
    length = _LONG if way == PADDED else short
    mask = torch.ones_like(ids[:, :length])
    mask[0, short:] = 0
    try:
        results = answer(input_ids=ids[:, :length] * mask, attention_mask=mask)[:1]
    except Exception:
        return False
    if results.shape != alone.shape and results.shape[1:2] == (_LONG,) and alone.shape[1:2] == (short,):
        results = results[:, :short]
    return results.shape == alone.shape and bool((results - alone).abs().max() <= rounding * alone.abs().max())
