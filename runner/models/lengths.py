"""Rows of unlike lengths without padding: those of one length are computed together.

What a row gives must not depend on how long its neighbours are. Most models of Transformers leave padding out by a
mask; whether one does is tried, on a row that it is asked for with and without padding.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from runner.tensors import RaggedTensor

_SHORT, _LONG = 7, 12  # tokens, without and with padding
# the most by which an answer may differ, as a part of its largest number: rounding stays below, padding is above
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-4}
_COARSE_ROUNDING = 3e-2


def call_by_length(call: Callable[..., Any], mask: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What a function gives for a padded batch, called with rows of one length at a time.

    Args:
        call: from tensors by name, with `attention_mask` among them, to outputs: tensors, `RaggedTensor`s, lists of
            strings, or several of these by name.
        mask: `(batch, length)`, true where a row has a token, which is at its beginning.
        tensors: what it is called with; those as long as the mask are cut to the length of the rows.

    Returns:
        The outputs for all rows, in their order.
    """
    lengths = mask.long().sum(dim=1)
    found, order = [], []
    for length in torch.unique(lengths).tolist():
        rows = (lengths == length).nonzero()[:, 0]
        some = {
            name: tensor[rows, :length] if tensor.shape[:2] == mask.shape else tensor[rows]
            for name, tensor in tensors.items()
        }
        found.append(call(**{**some, "attention_mask": mask[rows, :length].long()}))
        order.append(rows)
    places = torch.argsort(torch.cat(order))
    return _together(found, places)


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


def minds_padding(call: Callable[..., Any], num_tokens: int, padding: int, at_left: bool, device: torch.device) -> bool:
    """Whether what a model gives for a row depends on padding, by what it gives for one row twice.

    Args:
        call: from `input_ids` and `attention_mask` to a tensor `(1, length, ...)` or `(1, ...)`.
        num_tokens: in its vocabulary.
        padding: the token to pad with.
        at_left: whether padding comes before the tokens, and the last token alone counts.
        device: of the model.
    """
    ids = ((torch.arange(_SHORT, device=device) * 3 + 5) % num_tokens)[None]
    filling = torch.full((1, _LONG - _SHORT), padding, device=device)
    parts = [(filling, 0), (ids, 1)] if at_left else [(ids, 1), (filling, 0)]
    padded = torch.cat([tokens for tokens, _ in parts], dim=1)
    mask = torch.cat([torch.full_like(tokens, value) for tokens, value in parts], dim=1)
    try:
        alone = call(input_ids=ids, attention_mask=torch.ones_like(ids))
        among = call(input_ids=padded, attention_mask=mask)
    except Exception:  # some take no row as short as this: then nothing is known of padding
        return True
    if at_left:
        alone, among = alone[:, -1], among[:, -1]
    elif alone.shape != among.shape and alone.shape[1:2] == (_SHORT,) and among.shape[1:2] == (_LONG,):
        among = among[:, :_SHORT]
    if alone.shape != among.shape:
        return True
    allowed = _ROUNDING.get(alone.dtype, _COARSE_ROUNDING) * float(alone.abs().max())
    return not float((alone - among).abs().max()) <= allowed
