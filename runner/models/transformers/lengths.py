"""Which rows a model of Transformers can be asked for at once, so that none depends on the others.

Most models leave padding out by a mask; some take no notice of it, and some mix up the rows of a batch. Which kind one
is of is tried, with made-up rows: what it gives for one of them alone is what it must give for it beside another.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from runner.data.tensors import RaggedTensor

PADDED, BY_LENGTH, ALONE = "padded", "by length", "alone"
# Tokens of the rows that are tried. A convolution brings padding to the first token of very short rows alone; but some
# models take no row as short as that.
_SHORT, _LONG = (7, 2, 1), 12
# the most by which an answer may differ, as a part of its largest number: rounding stays below, padding is above
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-4}
_COARSE_ROUNDING = 3e-2


def call_apart(call: Callable[..., Any], way: str, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Call a function with rows of one length at a time, or with one row at a time.

    Args:
        call: from tensors by name, with `attention_mask` among them, to outputs: tensors, `RaggedTensor`s, or several
            of these by name.
        way: BY_LENGTH or ALONE.
        tensors: what it is to be called with; by `attention_mask`, `(batch, length)`, a row has tokens at its
            beginning alone. Those of its shape are cut to the length of the rows.

    Returns:
        The outputs for all rows, in their order.
    """
    mask = tensors["attention_mask"]
    lengths = mask.long().sum(dim=1)
    groups = [[row] for row in range(len(mask))]
    if way == BY_LENGTH:
        groups = [(lengths == length).nonzero()[:, 0].tolist() for length in torch.unique(lengths).tolist()]
    found = []
    for rows in groups:
        length = int(lengths[rows[0]])
        some = {n: t[rows, :length] if t.shape[:2] == mask.shape else t[rows] for n, t in tensors.items()}
        found.append(call(**{**some, "attention_mask": some["attention_mask"].long()}))
    order = torch.tensor([row for rows in groups for row in rows], device=mask.device)
    return _together(found, torch.argsort(order))


def _together(parts: list[Any], places: torch.Tensor) -> Any:
    """Outputs of all parts, of whose rows `places` are to come one after another."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: _together([part[name] for part in parts], places) for name in first}
    if isinstance(first, RaggedTensor):
        rows = [row for part in parts for row in torch.split(part.values, part.lengths.tolist())]
        lengths = torch.cat([part.lengths for part in parts])
        return RaggedTensor(torch.cat([rows[place] for place in places.tolist()]), lengths[places])
    return torch.cat(parts)[places]


def find_way(
    answer: Callable[..., torch.Tensor], ways: Sequence[str], num_tokens: int, device: torch.device, is_coarse: bool
) -> str:
    """The first of these ways in which a model gives for a row what it gives for it alone; ALONE where none is.

    Args:
        answer: from `input_ids` and `attention_mask`, `(batch, length)`, with tokens at the beginning of a row, to
            `(batch, length, ...)` or anything else that begins with the rows.
        ways: PADDED and BY_LENGTH, or the latter alone.
        num_tokens: in its vocabulary.
        device: of the model.
        is_coarse: whether it rounds more than its dtype does.
    """
    ids = torch.arange(2 * _LONG, device=device).reshape(2, _LONG) * 3 % num_tokens
    left = list(ways)
    for short in _SHORT:
        try:
            alone = answer(input_ids=ids[:1, :short], attention_mask=torch.ones_like(ids[:1, :short]))
        except Exception:
            if short == max(_SHORT):  # nothing is known, and so nothing is padded
                return BY_LENGTH
            continue
        rounding = _COARSE_ROUNDING if is_coarse else _ROUNDING.get(alone.dtype, _COARSE_ROUNDING)
        while left and not _is_right(answer, left[0], ids, alone, short, rounding):
            left.pop(0)
    return left[0] if left else ALONE


def _is_right(
    answer: Callable[..., torch.Tensor], way: str, ids: torch.Tensor, alone: torch.Tensor, short: int, rounding: float
) -> bool:
    """Whether a model gives for the first `short` tokens of a row, beside another, what it gives for them `alone`."""
    length = _LONG if way == PADDED else short
    mask = torch.ones_like(ids[:, :length])
    mask[0, short:] = 0
    try:
        found = answer(input_ids=ids[:, :length] * mask, attention_mask=mask)[:1]
    except Exception:
        return False
    if found.shape != alone.shape and found.shape[1:2] == (_LONG,) and alone.shape[1:2] == (short,):
        found = found[:, :short]
    return found.shape == alone.shape and bool((found - alone).abs().max() <= rounding * alone.abs().max())
