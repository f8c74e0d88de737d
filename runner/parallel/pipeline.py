"""Pipeline parallelism: the layers of a model are cut into stages, and the micro-batches of a batch follow one another
through them (Huang et al., "GPipe", 2019), forward only.

Every rank runs the complete forward of the model. Layers of other stages work on unknown values (`fake_tensors.py`); at
the first layer of its own stage a rank receives its inputs, and at the first layer of the next one it sends them. So a
model needs to be neither a chain of modules nor traced, rows may be of any length, and Transformers' generation works.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
from torch.distributed.tensor import DTensor
from torch.utils import _pytree as pytree

from runner.comm.groups import Groups
from runner.comm.pieces import as_bytes
from runner.core.errors import ModelError, describe
from runner.core.shortage import is_memory_shortage
from runner.parallel.fake_tensors import is_unknown, kind_of
from runner.parallel.stage_link import Inbound, NeighborFailed, Outbound, Waiting
from runner.parallel.stages import PipelineSplit

_NEED_VALUES = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
_NEEDS_MORE = (
    "a stage depends on earlier stages through more than the inputs of its first layer; split the model elsewhere with "
    "--split-points, and register its layers in call order"
)
_REASON_BYTES = 1000


class Pipeline:
    """A replacement of a model's `forward`, on every rank of a group.

    Args:
        model: the module, with the parameters of this rank's stage; all others are unknown.
        stages: the split of the model into stages.
        groups, rank: the groups, and this rank's number.
        device: device of this rank.
        micro_batches: number of micro-batches; fewer for a batch of fewer rows, one where inputs are not plain tensors.
        waiting: a context in which this rank waits for others.
    """

    def __init__(
        self,
        model: nn.Module,
        stages: PipelineSplit,
        groups: Groups,
        rank: int,
        device: torch.device,
        micro_batches: int,
        waiting: Waiting,
    ) -> None:
        stage = groups.stage(rank)
        self._place = groups.place(rank)
        self._device = device
        self._micro_batches = micro_batches
        self._waiting = waiting
        self._index = 0
        self._inbound: Inbound | None = None
        self._outbound: Outbound | None = None
        if stage:
            self._inbound = Inbound(stages.begins[stage - 1], self._place - groups.tensor_size, device, waiting)
        if stage < groups.stages - 1:
            self._outbound = Outbound(stages.begins[stage], self._place + groups.tensor_size, waiting)
        self._links = [link for link in (self._inbound, self._outbound) if link]
        for link in self._links:
            layer = model.get_submodule(link.name)  # a split layer makes distributed tensors in a hook of its own
            layer.register_forward_pre_hook(self._crossing(link), with_kwargs=True, prepend=True)
        self._passed: dict[Any, bool] = {}
        for name, owner in stages.units.items():
            if owner != stage:
                _pass_over(model.get_submodule(name), self._passed)
        self._forward: Callable[..., Any] = model.forward

        @functools.wraps(model.forward)  # Transformers reads its signature
        def forward(*inputs: Any, **named: Any) -> Any:
            return self(*inputs, **named)

        model.forward = forward

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the output of the model for a batch, on every rank of the group.

        Raises:
            ModelError: it cannot be cut in this way.
            RuntimeError: another stage has failed; the message has its reason. The failed stage raises its own error.
        """
        for link in self._links:
            link.begin()
        parts = _split(inputs, named, self._micro_batches)
        output: Any = None
        error: Exception | None = None
        try:
            outputs = []
            for self._index, (some, more) in enumerate(parts):
                outputs.append(self._run(some, more))
            output = _together(outputs)
        except Exception as caught:
            if is_memory_shortage(caught):
                raise
            error = ModelError(f"{_NEEDS_MORE} ({describe(caught)})") if isinstance(caught, _NEED_VALUES) else caught
            if self._outbound and self._outbound.crossed < len(parts):
                self._outbound.refuse()
            if self._inbound:
                self._inbound.drain(len(parts))
        if self._outbound:
            self._outbound.finish()
        self._agree(error)
        return self._share(output)

    def _run(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return the output for one micro-batch."""
        self._passed.clear()
        output = pytree.tree_map_only(DTensor, DTensor.full_tensor, self._forward(*inputs, **named))
        for link in self._links:
            self._check(link, self._index + 1)
        return output

    def _crossing(self, link: Inbound | Outbound) -> Callable[..., Any]:
        """Return the hook at a link: it replaces the arguments by those on the other side of it."""

        def cross(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            self._check(link, self._index)
            leaves, structure = pytree.tree_flatten((args, named))
            return pytree.tree_unflatten(link.cross(leaves), structure)

        return cross

    def _check(self, link: Inbound | Outbound, crossed: int) -> None:
        if link.crossed != crossed:
            raise ModelError(
                f"{link.name} is not called once per batch, so no stage can begin there; choose other layers with "
                "--split-points"
            )

    def _agree(self, error: Exception | None) -> None:
        """Raise on all ranks of the group where one has failed."""
        with self._waiting():
            failed = torch.tensor([int(error is not None)])
            dist.all_reduce(failed)
        if not failed:
            return
        own = b"" if error is None or isinstance(error, NeighborFailed) else describe(error).encode()[:_REASON_BYTES]
        mine = torch.frombuffer(bytearray(own.ljust(_REASON_BYTES, b"\0")), dtype=torch.uint8)
        all_of_them = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(all_of_them, mine)
        if own:
            assert error is not None
            raise error
        reasons = [reason.numpy().tobytes().rstrip(b"\0").decode(errors="ignore") for reason in all_of_them]
        place, reason = next((place, reason) for place, reason in enumerate(reasons) if reason)
        raise RuntimeError(f"{reason} (on the rank at place {place} of its group)")

    def _share(self, output: Any) -> Any:
        """Return the output on all ranks, each tensor from the last stage that knows it.

        Raises:
            ModelError: no stage knows a tensor, or its sizes differ; on all ranks alike.
        """
        leaves, structure = pytree.tree_flatten(output)
        tensors = {index: leaf.contiguous() for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)}
        with self._waiting():
            own = [(-1 if is_unknown(leaf) else self._place, leaf.nbytes, -leaf.nbytes) for leaf in tensors.values()]
            greatest = torch.tensor(own).reshape(-1, 3)
            dist.all_reduce(greatest, dist.ReduceOp.MAX)
            for index, (source, most, least) in zip(tensors, greatest.tolist(), strict=True):
                if source < 0 or most != -least:
                    raise ModelError(_NEEDS_MORE)
                tensor = tensors[index]
                if is_unknown(tensor):
                    tensor = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
                dist.broadcast(as_bytes(tensor), source)
                leaves[index] = tensor
        return pytree.tree_unflatten(leaves, structure)


def _split(inputs: tuple[Any, ...], named: dict[str, Any], count: int) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Split a batch into micro-batches of equal size, give or take a row; it stays whole where that is impossible."""
    leaves, structure = pytree.tree_flatten((inputs, named))
    plain = (torch.Tensor, int, float, str, bool, type(None))
    rows = {len(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dim()}
    if len(rows) != 1 or not all(isinstance(leaf, plain) for leaf in leaves):
        return [(inputs, named)]
    count = min(count, max(1, rows.pop()))
    cut = [
        leaf.tensor_split(count) if isinstance(leaf, torch.Tensor) and leaf.dim() else (leaf,) * count
        for leaf in leaves
    ]
    return [pytree.tree_unflatten(list(some), structure) for some in zip(*cut, strict=True)]


def _together(outputs: list[Any]) -> Any:
    """Concatenate the outputs of the micro-batches to that of the batch."""
    if len(outputs) == 1:
        return outputs[0]
    _, structure = pytree.tree_flatten(outputs[0])
    columns = zip(*(pytree.tree_leaves(output) for output in outputs), strict=True)
    joined = [torch.cat(column) if isinstance(column[0], torch.Tensor) else column[0] for column in columns]
    return pytree.tree_unflatten(joined, structure)


def _pass_over(unit: nn.Module, passed: dict[Any, bool]) -> None:
    """Let a layer of another stage return its first input, where a layer like it has been seen to keep the shape.

    Args:
        unit: the layer.
        passed: whether each kind of layer keeps the shape, in the present forward.
    """
    original = unit.forward
    kind = kind_of(unit)

    @functools.wraps(original)
    def forward(*args: Any, **named: Any) -> Any:
        first = next((leaf for leaf in pytree.tree_leaves((args, named)) if isinstance(leaf, torch.Tensor)), None)
        if passed.get(kind) and is_unknown(first):
            return first
        output = original(*args, **named)
        if first is not None and is_unknown(first) and is_unknown(output):
            passed[kind] = (output.shape, output.dtype) == (first.shape, first.dtype)
        return output

    unit.forward = forward
