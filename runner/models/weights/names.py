"""Translation of the tensor names in a weights file to the model's names, without the prefixes of wrappers; and a
comparison with the model's.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

_COMPILED = "_orig_mod."


@dataclass(frozen=True)
class Renamed:
    """Tensors by the model's names.

    Attributes:
        tensors: the tensors that may be the model's.
        unprefixed: names of the tensors that lack the requested prefix.
        versions: versions of the modules, by the model's names.
        dropped: the part dropped from the names; "" for none.
        in_file: all names of the file.
    """

    tensors: dict[str, Any]
    unprefixed: list[str]
    versions: dict[str, Any]
    dropped: str
    in_file: list[str]


def rename(
    tensors: Mapping[str, Any], versions: Mapping[str, Any], own: Collection[str], prefix: str | None
) -> Renamed:
    """Drop a prefix from names, and the prefixes of torch.compile, DDP and Lightning where all names have them.

    Args:
        tensors, versions: contents of the file; see `StateDict`.
        own: the model's names.
        prefix: prefix to drop first; tensors without it are not the model's. None for the usual prefixes alone.
    """
    in_file = list(tensors)
    unprefixed = []
    dropped = prefix or ""
    if prefix is not None:
        unprefixed = [name for name in tensors if not name.startswith(prefix)]
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        versions = _rename_modules(versions, lambda name: name.removeprefix(prefix))
    if any(_COMPILED in name for name in tensors) and not any(_COMPILED in name for name in own):
        renamed = {name.replace(_COMPILED, ""): tensor for name, tensor in tensors.items()}
        if len(renamed) == len(tensors):
            tensors = renamed
            dropped += _COMPILED
            versions = _rename_modules(versions, lambda name: name.replace(_COMPILED, ""))
    common = _common_prefix(tensors, own)
    if common:
        tensors = {name.removeprefix(common): tensor for name, tensor in tensors.items()}
        versions = _rename_modules(versions, lambda name: name.removeprefix(common))
    return Renamed(dict(tensors), unprefixed, dict(versions), dropped + common, in_file)


def hint(own: Collection[str], contents: Renamed, is_missing: bool, is_reshaped: bool) -> str:
    """Suggest how to resolve names that do not fit the model's.

    Args:
        own: the model's names.
        contents: the tensors of the file.
        is_missing, is_reshaped: whether the file lacks tensors of the model, or holds them in other shapes.
    """
    if is_missing and (prefix := _prefix_that_fits(contents.in_file, own)):
        names = [name for name in contents.in_file if not name.startswith(prefix)]
        patterns = dict.fromkeys(f"{name.partition('.')[0]}.*" if "." in name else name for name in names)
        ignore = f" --ignore-keys '{','.join(patterns)}'" if names else ""
        return f"All of the model's names are in it after {prefix!r}: --strip-prefix {prefix}{ignore}"
    if not is_missing and not is_reshaped:
        return "Where the model does not need these: --ignore-keys with their names, or patterns of them, by commas"
    return "Check --model-args, or that the weights are of this model"


def _prefix_that_fits(names: Collection[str], own: Collection[str]) -> str:
    """Return the prefix of all the model's names in a file that may hold further names; "" where there is none."""
    held = set(names)
    first = next(iter(own), "")
    prefixes = [name.removesuffix(first) for name in names if first and name.endswith(f".{first}")]
    return next((prefix for prefix in prefixes if all(prefix + name in held for name in own)), "")


def _common_prefix(tensors: Collection[str], own: Collection[str]) -> str:
    """Return the dotted prefix of all names without which some are the model's; "" where there is none."""
    prefix = ""
    while not any(name.removeprefix(prefix) in own for name in tensors):
        part = next(iter(tensors), "").removeprefix(prefix).partition(".")[0] + "."
        prefix += part
        if not tensors or not all(name.startswith(prefix) for name in tensors):
            return ""
    return prefix


def _rename_modules(versions: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Rename modules like their tensors; a module that is itself the prefix becomes the outermost one."""
    return {change(f"{name}.").removesuffix("."): version for name, version in versions.items()}
