"""The names of the tensors in a file of weights, as the model has them: the prefixes of wrappers dropped; and how they
differ from the model's. Pure.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

_COMPILED = "_orig_mod."


@dataclass(frozen=True)
class Renamed:
    """Tensors by the model's names.

    Attributes:
        tensors: those that may be the model's.
        others: the names of those without the prefix that was asked for.
        versions: of the modules, by the model's names.
        dropped: what was dropped from the names; "" for nothing.
        in_file: all names of the file.
    """

    tensors: dict[str, Any]
    others: list[str]
    versions: dict[str, Any]
    dropped: str
    in_file: list[str]


def rename(
    tensors: Mapping[str, Any], versions: Mapping[str, Any], own: Collection[str], prefix: str | None
) -> Renamed:
    """Drop a prefix from names, and those of torch.compile, DDP, Lightning where all names have them.

    Args:
        tensors, versions: what the file holds; see `StateDict`.
        own: the model's names.
        prefix: dropped first; names without it are no tensors of the model. None for the usual ones alone.
    """
    in_file, others, dropped = list(tensors), [], prefix or ""
    if prefix is not None:
        others = [name for name in tensors if not name.startswith(prefix)]
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        versions = _rename_modules(versions, lambda name: name.removeprefix(prefix))
    if any(_COMPILED in name for name in tensors) and not any(_COMPILED in name for name in own):
        renamed = {name.replace(_COMPILED, ""): tensor for name, tensor in tensors.items()}
        if len(renamed) == len(tensors):
            tensors, dropped = renamed, dropped + _COMPILED
            versions = _rename_modules(versions, lambda name: name.replace(_COMPILED, ""))
    common = _common_prefix(tensors, own)
    if common:
        tensors = {name.removeprefix(common): tensor for name, tensor in tensors.items()}
        versions = _rename_modules(versions, lambda name: name.removeprefix(common))
    return Renamed(dict(tensors), others, dict(versions), dropped + common, in_file)


def hint(own: Collection[str], found: Renamed, is_missing: bool, is_reshaped: bool) -> str:
    """Say what to do about names that do not fit the model's.

    Args:
        own: the model's names.
        found: those of the file.
        is_missing, is_reshaped: whether the file lacks tensors of the model, or holds them in other shapes.
    """
    if is_missing and (prefix := _prefix_that_fits(found.in_file, own)):
        names = [name for name in found.in_file if not name.startswith(prefix)]
        patterns = dict.fromkeys(f"{name.partition('.')[0]}.*" if "." in name else name for name in names)
        ignore = f" --ignore-keys '{','.join(patterns)}'" if names else ""
        return f"All of the model's names are in it after {prefix!r}: --strip-prefix {prefix}{ignore}"
    if not is_missing and not is_reshaped:
        return "Where the model does not need these: --ignore-keys with their names, or patterns of them, by commas"
    return "Check --model-args, or that the weights are of this model"


def _prefix_that_fits(names: Collection[str], own: Collection[str]) -> str:
    """Return the prefix of all of the model's names in a file that holds others, too; "" where there is none."""
    held, first = set(names), next(iter(own), "")
    prefixes = [name.removesuffix(first) for name in names if first and name.endswith(f".{first}")]
    return next((prefix for prefix in prefixes if all(prefix + name in held for name in own)), "")


def _common_prefix(tensors: Collection[str], own: Collection[str]) -> str:
    """Return the prefix of every name, in whole parts, without which some are the model's; "" where there is none."""
    prefix = ""
    while not any(name.removeprefix(prefix) in own for name in tensors):
        part = next(iter(tensors), "").removeprefix(prefix).partition(".")[0] + "."
        prefix += part
        if not tensors or not all(name.startswith(prefix) for name in tensors):
            return ""
    return prefix


def _rename_modules(versions: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Rename modules as tensors in them are; a module that is itself the prefix becomes the outermost one."""
    return {change(f"{name}.").removesuffix("."): version for name, version in versions.items()}
