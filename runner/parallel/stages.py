"""Split of a model's layers into stages; parameters may be on the meta device.

The modules of a model are taken in order of registration, which is nearly always the order of their calls. A stage
begins at a module, and holds the parameters from there on until the next stage begins. Parameters that belong directly
to a module that is itself cut, such as a model's own position embedding, are held by all stages.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from runner.core.errors import ModelError


@dataclass(frozen=True)
class PipelineSplit:
    """A model cut into stages.

    Attributes:
        begins: names of the modules at which the stages after the first begin.
        units: names of the modules at which a stage could begin, and the stage of each.
        modules: the stages of all modules: one, or several where the module is cut.
    """

    begins: tuple[str, ...]
    units: dict[str, int]
    modules: dict[str, tuple[int, ...]]

    def has(self, stage: int, module: str) -> bool:
        """Return whether a stage holds the parameters of a module."""
        return stage in self.modules[module]

    def holds(self, stage: int, name: str) -> bool:
        """Return whether a stage holds a parameter."""
        return self.has(stage, name.rpartition(".")[0])


def cut_into_stages(model: nn.Module, count: int, split_points: Sequence[str] = ()) -> PipelineSplit:
    """Cut a model into stages.

    Args:
        model: the module.
        count: number of stages.
        split_points: names of the modules at which the stages after the first begin; without them, the largest stage
            is made as small as possible, in bytes.

    Raises:
        ModelError: the model has no such modules, or too few.
    """
    order = {name: number for number, (name, _) in enumerate(model.named_modules(remove_duplicate=False))}
    units = [name for name in _units(model) if order[name]]
    begins = tuple(split_points) or _balanced(model, units, count)
    for name in begins:
        if name not in order or not name:
            some = ", ".join(units[:8])
            raise ModelError(f"--split-points: the model has no layer {name!r}; it can be cut at {some}, ...")
    if list(begins) != sorted(begins, key=order.__getitem__) or len(set(begins)) < len(begins):
        raise ModelError(f"--split-points {','.join(begins)} are not in the order of the model's layers")
    borders = [order[name] for name in begins]

    def stage_of(module: str) -> int:
        return bisect_right(borders, order[module])

    modules = {}
    for name in order:
        is_cut = any(begin.startswith(f"{name}.") or not name for begin in begins)
        modules[name] = tuple(range(count)) if is_cut else (stage_of(name),)
    return PipelineSplit(begins, {name: stage_of(name) for name in units}, modules)


def _units(model: nn.Module, prefix: str = "") -> Iterator[str]:
    """Yield the modules that are called one after another: items of lists, and the modules beside these lists."""
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.ModuleList | nn.Sequential) or _has_list(child, isinstance(model, nn.ModuleList)):
            yield from _units(child, f"{path}.")
        elif next(child.parameters(), None) is not None:
            yield path


def _has_list(child: nn.Module, is_item: bool) -> bool:
    """Return whether a module is cut inside: it holds a list of layers, and is not itself an item of one."""
    return not is_item and any(isinstance(inner, nn.ModuleList) for inner in child.modules())


def _balanced(model: nn.Module, units: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the units at which the stages after the first begin, such that the largest stage has the fewest bytes."""
    if len(units) < count:
        raise ModelError(f"the model has {len(units)} separate layers; --pipeline-stages {count} needs as many")
    sizes = [sum(parameter.nbytes for parameter in model.get_submodule(unit).parameters()) for unit in units]
    limit_low = max(sizes)
    limit_high = sum(sizes)
    while limit_low < limit_high:  # search for the smallest limit that `count` stages can keep
        middle = (limit_low + limit_high) // 2
        if len(_pack(sizes, middle, 1)) <= count:
            limit_high = middle
        else:
            limit_low = middle + 1
    return tuple(units[first] for first in _pack(sizes, limit_low, count)[1:])


def _pack(sizes: Sequence[int], limit: int, at_least: int) -> list[int]:
    """Return the first unit of each stage; stages are as full as the limit allows, but leave a unit for each later."""
    begins = [0]
    filled = 0
    for index, size in enumerate(sizes):
        is_needed = len(begins) < at_least and len(sizes) - index == at_least - len(begins)
        if index and (filled + size > limit or is_needed):
            begins.append(index)
            filled = 0
        filled += size
    return begins
