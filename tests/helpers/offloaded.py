"""Models whose layers are fetched when they are called, in all the ways in which they use their weights."""

import os
from pathlib import Path

import torch
from torch import nn

WIDTH = 64


class Parts(nn.Module):
    """A buffer and a parameter of its own, tied weights, a layer that is called twice, recurrent layers, attention with
    PyTorch's fast way, random buffers that are in no file, and weights of a layer that is not called.

    A row that holds `touch` in its first column has the file of that name written to.
    """

    def __init__(self, touch: float = 1e9, file: str = "") -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.recurrent = nn.LSTM(16, 16, batch_first=True)
        self.twice, self.tied, self.uncalled = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.tied.weight = self.twice.weight
        self.scale = nn.Parameter(torch.randn(WIDTH))
        self.norm = nn.BatchNorm1d(WIDTH)
        self.norm.running_mean.uniform_()  # type: ignore[union-attr]
        self.register_buffer("shift", torch.rand(WIDTH), persistent=False)
        self.touch, self.file = touch, file

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if bool((rows[:, 0] == self.touch).any()):
            os.utime(self.file)
        found = self.recurrent(self.encoder(rows.view(-1, 4, 16)))[0].flatten(1)
        found = self.tied(torch.relu(self.twice(self.twice(found)))) * self.scale + self.shift.to(found.dtype)
        return nn.functional.linear(self.norm(found), self.uncalled.weight, self.uncalled.bias)


def build(**arguments: object) -> nn.Module:
    """The same on every call."""
    torch.manual_seed(1)
    return Parts(**arguments)  # type: ignore[arg-type]


class Large(nn.Module):
    """Layers of 16 MiB each; it says how much memory of its own the process has while the last one is called."""

    def __init__(self, num_layers: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2048, 2048, bias=False) for _ in range(num_layers))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            rows = torch.relu(layer(rows))
        return rows.sum(dim=1, keepdim=True) * 0 + own_bytes()


def own_bytes() -> int:
    """The anonymous memory of this process: what is mapped from files is not in it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def derived() -> nn.Module:
    """The same, which keeps what it has computed of its parameters."""
    model = build()
    model.half = model.scale.detach() / 2  # type: ignore[assignment, operator]
    return model


def no_module() -> object:
    return lambda rows: rows
