"""Modules whose checkpoints are of the kinds that users have."""

from typing import Any

import torch
from torch import nn

WIDTH = 64


def plain(seed: int = 0, dtype: str = "float32") -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Linear(WIDTH, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)
    return nn.Sequential(*layers).to(getattr(torch, dtype))


def trained(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Of other weights than `plain` begins with."""
    model = plain(seed=7)
    nn.init.normal_(model[1].running_mean)
    return model.to(dtype).eval()


def classifier() -> nn.Module:
    """What is in a LightningModule of `data/make_lightning.py`, without the loss."""
    return nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, 2))


def normed(old: bool = False) -> nn.Module:
    norm: Any = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    return norm(nn.Linear(WIDTH, 4))


class Scaled(nn.Module):
    """Keeps something beside its tensors."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.layer = scale, nn.Linear(WIDTH, 4)

    def get_extra_state(self) -> Any:
        return {"scale": self.scale}

    def set_extra_state(self, state: Any) -> None:
        self.scale = state["scale"]

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.scale * self.layer(rows)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(rows))


class Counter(nn.Module):
    """Holds a single number and whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("places", torch.zeros(3, dtype=torch.int32))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.sum(1) + self.step + self.places.sum()


class Fails(nn.Module):
    """Cannot be moved."""

    def _apply(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("not this one")
