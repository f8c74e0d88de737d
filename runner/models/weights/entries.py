"""Search of a training checkpoint for the entry with the model's state dict."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from runner.core.errors import ModelError

# where training scripts and libraries put the state dict in their checkpoints
_USUAL_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_MAX_DEPTH = 3
_MAX_NAMES = 6


def find_state_dict(loaded: Any, path: str, key: str | None) -> tuple[Mapping[str, Any], str]:
    """Return the state dict in a result of torch.load, and the key of its entry, or "".

    Args:
        loaded: a state dict, a module, or a checkpoint that holds one of these.
        path: path of the file, for messages.
        key: entry to take, as keys joined by dots; None for the usual one.

    Raises:
        ModelError: there is no such entry, none is a state dict, or several candidates exist.
    """
    if key is not None:
        state = as_state_dict(_descend(loaded, key))
        if state is None:
            raise ModelError(f"--weights-key {key}: {path} has no state dict there; {_contents(loaded)}")
        return state, key
    state = as_state_dict(loaded)
    if state is not None:
        return state, ""
    entries = dict(_entries(loaded))
    usual = [name for name in entries if name in _USUAL_KEYS]
    if len(usual) == 1:
        rivals = [name for name in entries if name != usual[0] and _are_alike(entries[usual[0]], entries[name])]
        if not rivals:
            return entries[usual[0]], usual[0]
        raise ModelError(
            f"--weights {path} holds the same tensors several times: {list_names([usual[0], *rivals])}. "
            "--weights-key KEY says which are meant"
        )
    raise ModelError(
        f"--weights {path} holds {_contents(loaded)}. A state dict, names to tensors, is needed, or a checkpoint with "
        f"one under one of {', '.join(_USUAL_KEYS)}; --weights-key KEY names another entry"
    )


def as_state_dict(value: Any) -> Mapping[str, Any] | None:
    """Return a state dict as it is, or the state dict of a module; None for any other object."""
    if isinstance(value, nn.Module):
        return value.state_dict()
    if not isinstance(value, Mapping):
        return None
    is_one = all(
        isinstance(name, str) and (isinstance(tensor, torch.Tensor) or name.endswith("_extra_state"))
        for name, tensor in value.items()
    )
    return value if is_one else None


def _entries(value: Any, depth: int = 1) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the non-empty state dicts in a checkpoint, up to three levels deep, by dotted key."""
    for key, entry in value.items() if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            continue
        state = as_state_dict(entry)
        if state:
            yield key, state
        elif state is None and depth < _MAX_DEPTH:
            yield from ((f"{key}.{name}", inner) for name, inner in _entries(entry, depth + 1))


def _descend(value: Any, key: str) -> Any:
    """Return the entry of dotted keys; None where there is none. A single key may contain dots."""
    if isinstance(value, list | tuple):
        value = {str(index): item for index, item in enumerate(value)}
    if not isinstance(value, Mapping):
        return None
    by_name = {str(name): entry for name, entry in value.items()}
    if key in by_name:
        return by_name[key]
    parts = key.split(".")
    heads = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((_descend(by_name[head], key[len(head) + 1 :]) for head in heads if head in by_name), None)


def _are_alike(state: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether another state dict holds half or more of a state dict's names, apart from wrappers' prefixes."""
    names, other_names = _bare_names(state), _bare_names(other)
    return 2 * len(names & other_names) >= len(names)


def _bare_names(state: Mapping[str, Any]) -> set[str]:
    names = set(state)
    for wrapper in _WRAPPERS:
        names = {name.removeprefix(wrapper) for name in names}
    return names


def _contents(loaded: Any) -> str:
    """Describe the contents of a file."""
    if not isinstance(loaded, Mapping):
        return f"a {type(loaded).__name__}"
    keys = [str(key) for key in loaded]
    entries = [name for name, _ in _entries(loaded)]
    words = f"keys {list_names(keys)}"
    return f"{words}, of which {list_names(entries)} could be meant" if entries else words


def list_names(names: Collection[object]) -> str:
    """Join the first names, and add the number of further ones."""
    shown = ", ".join(str(name) for name in list(names)[:_MAX_NAMES])
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown
