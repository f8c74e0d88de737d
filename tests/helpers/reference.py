"""What the runner must give: a plain torch loop over the same batches, in this process, without the runner."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def plain_loop(
    model: nn.Module, rows: np.ndarray, batch_size: int, postprocess: Callable[[Any], Any] = lambda output: output
) -> np.ndarray:
    """Predictions for all rows, one batch after another, with one thread."""
    torch.set_num_threads(1)
    model = model.eval()
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            output = postprocess(model(torch.from_numpy(rows[start : start + batch_size].copy())))
            outputs.append((output.float() if output.dtype == torch.bfloat16 else output).numpy().copy())
    return np.concatenate(outputs)


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def random_rows(num_rows: int, *row_shape: int, seed: int = 0) -> np.ndarray:
    """Float32 rows, the same for the same arguments."""
    return np.random.default_rng(seed).normal(size=(num_rows, *row_shape)).astype(np.float32)
