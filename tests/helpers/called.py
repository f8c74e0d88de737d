"""Models and functions that differ by what they are called with, for test_calling.py."""

from typing import Any

import numpy as np
import torch
from torch import nn


class Two(nn.Module):
    """Two numbers a row, which are not interchangeable."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left * 2 - right


class Masked(nn.Module):
    """Token lists and the mask of Transformers, with which arithmetic is done."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = nn.Embedding(50, 6)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        outside = (attention_mask - 1)[..., None] * 1e4
        return (self.embed(input_ids) + outside).amax(dim=1)


class Lengths(nn.Module):
    """One input, and no word of what is padding: what is filled up would change the mean."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.double().mean(dim=1)


class Scaled(nn.Module):
    """Rows, and something that is the same for all of them."""

    def forward(self, rows: torch.Tensor, state: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        return rows * state.sum(dim=0) + rate


class Baked(nn.Module):
    """A number of rows that a trace keeps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(8, -1, 2)


def mlp() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def as_arrays(rows: torch.Tensor) -> np.ndarray:
    """A --preprocess that leaves PyTorch."""
    return rows.numpy() * np.float32(0.5)


def as_two_arrays(rows: torch.Tensor) -> Any:
    return [rows.numpy()[:, 0], rows.numpy()[:, 1]]
