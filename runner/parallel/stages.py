"""Where the layers of a model are cut into stages. Pure: parameters may be on the meta device.

The modules of a model come in the order in which they were registered, which is nearly always that in which they are
called. A stage begins at a module, and holds the parameters from there on until the next begins. What belongs to a
module that is itself cut, such as a model's own position embedding, is held by all stages.
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
        begins: the names of the modules at which the stages after the first begin.
        units: names of the modules that could have begun a stage, and the stage of each.
        modules: the stages of all modules: of one, or of several where it is cut.
    """

    begins: tuple[str, ...]
    units: dict[str, int]
    modules: dict[str, tuple[int, ...]]

    def has(self, stage: int, module: str) -> bool:
        """Whether a stage holds the parameters of a module."""
        return stage in self.modules[module]

    def holds(self, stage: int, name: str) -> bool:
        """Whether a stage holds a parameter."""
        return self.has(stage, name.rpartition(".")[0])


def cut_into_stages(model: nn.Module, count: int, split_points: Sequence[str] = ()) -> PipelineSplit:
    """Cut a model.

    Args:
        model: the module.
        count: how many stages.
        split_points: names of the modules at which those after the first begin; without, the largest stage gets as few
            bytes as it can.

    Raises:
        ModelError: it has no such modules, or too few.
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
    """The modules that are called one after another: items of lists, and what stands beside these lists."""
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.ModuleList | nn.Sequential) or _has_list(child, isinstance(model, nn.ModuleList)):
            yield from _units(child, f"{path}.")
        elif next(child.parameters(), None) is not None:
            yield path


def _has_list(child: nn.Module, is_item: bool) -> bool:
    """Whether a module is cut inside: it holds a list of layers, and is not itself an item of one."""
    return not is_item and any(isinstance(inner, nn.ModuleList) for inner in child.modules())


def _balanced(model: nn.Module, units: Sequence[str], count: int) -> tuple[str, ...]:
    """The units that begin the stages after the first, such that the largest stage has the fewest bytes."""
    if len(units) < count:
        raise ModelError(
            f"the model has {len(units)} layers that can be told apart; --pipeline-stages {count} needs as many"
        )
    sizes = [sum(parameter.nbytes for parameter in model.get_submodule(unit).parameters()) for unit in units]
    limit_low, limit_high = max(sizes), sum(sizes)
    while limit_low < limit_high:  # the least limit that so many stages can keep to
        middle = (limit_low + limit_high) // 2
        if len(_pack(sizes, middle, 1)) <= count:
            limit_high = middle
        else:
            limit_low = middle + 1
    return tuple(units[first] for first in _pack(sizes, limit_low, count)[1:])


def _pack(sizes: Sequence[int], limit: int, at_least: int) -> list[int]:
    """Where stages begin that take as much as the limit lets them, but leave something for as many as there must be."""
    begins, filled = [0], 0
    for index, size in enumerate(sizes):
        is_needed = len(begins) < at_least and len(sizes) - index == at_least - len(begins)
        if index and (filled + size > limit or is_needed):
            begins.append(index)
            filled = 0
        filled += size
    return begins
