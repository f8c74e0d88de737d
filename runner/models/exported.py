"""Programs of torch.export, `.pt2` files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from runner.config import Config
from runner.models.fixed import FixedBatch


def load(path: str, device: torch.device, config: Config) -> Any:
    """The program, ready to be called; it is in the mode that it was exported in.

    Raises:
        UsageError: it takes smaller batches than the job has.
    """
    with open(path, "rb") as file, _pickles(config.trust_pickle):
        program = torch.export.load(file)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    model = program.module()
    size = _fixed_size(program)
    return model if size is None else FixedBatch(model, size, config.batch_size)


def _fixed_size(program: torch.export.ExportedProgram) -> int | None:
    """The first axis of the inputs, where it was not left open."""
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in inputs and isinstance(node.meta.get("val"), torch.Tensor):
            size = node.meta["val"].shape[:1]
            if len(size) and isinstance(size[0], int):
                return size[0]
    return None


@contextmanager
def _pickles(trusted: bool) -> Iterator[None]:
    """Let no pickled code run unless it is trusted: torch.export.load itself unpickles what it finds."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    former = os.environ.get(name)
    if not trusted:
        os.environ[name] = "1"
    try:
        yield
    finally:
        if former is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = former
