"""A model that was exported for batches of one size."""

from collections.abc import Callable
from typing import Any

import torch

from runner.errors import UsageError
from runner.transfer import map_tensors


class FixedBatch:
    """Calls a model with batches of the one size it takes; shorter ones are filled up with their last row.

    What the model gives for the rows that fill up is cut off again.

    Args (and attributes):
        model: it takes and gives tensors whose first axis is of `size`.
        size: rows.
        batch_size: the largest that it will be called with.

    Raises:
        UsageError: batches are to be larger.
    """

    def __init__(self, model: Callable[..., Any], size: int, batch_size: int) -> None:
        self.model, self.size = model, size
        if batch_size > size:
            raise UsageError(f"--batch-size {batch_size}: the model was exported for batches of {size} rows, no more")

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        num_rows = 0

        def fill(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal num_rows
            num_rows = len(tensor)
            if num_rows == self.size:
                return tensor
            return torch.cat([tensor, tensor[-1:].expand(self.size - num_rows, *tensor.shape[1:])])

        output = self.model(*map_tensors(inputs, fill), **map_tensors(named, fill))
        return map_tensors(output, lambda tensor: tensor[:num_rows])
