"""Models whose forces are gradients of their energies by autograd, and what comes before and after them."""

import functools
import json
import weakref

import torch
from torch import nn


@functools.cache
def table() -> torch.Tensor:
    """As libraries keep what they compute at the first call."""
    return torch.linspace(1, 2, 8).exp()


class Forces(nn.Module):
    """Of rows of 8 numbers: the energy, `(rows,)`, and its gradient, `(rows, 8)`, as `way` says."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.way = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)), way
        self.earlier: weakref.ref[torch.Tensor] | None = None
        if way == "frozen":
            self.requires_grad_(False)

    def energy(self, rows: torch.Tensor) -> torch.Tensor:
        if (rows > 100).any():
            raise ValueError("an atom is too far away")
        return self.layer(rows * table() if self.way == "keeps a table" else rows)[:, 0]

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.way == "torch.func":
            return {"energy": self.energy(rows), "forces": -torch.func.grad(lambda r: self.energy(r).sum())(rows)}
        rows = rows.clone().requires_grad_() if self.way == "clones" else rows.requires_grad_()
        with torch.set_grad_enabled(self.way == "enables" or torch.is_grad_enabled()):
            energy = self.energy(rows)
            (gradient,) = torch.autograd.grad(energy.sum(), rows, create_graph=self.way == "a graph of its own")
        assert self.earlier is None or self.earlier() is None, "the graph of an earlier batch is still there"
        self.earlier = weakref.ref(energy)
        return {"energy": energy, "forces": -gradient}


def halved(outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: output * 0.5 for name, output in outputs.items()}


def to_need_gradients(rows: torch.Tensor) -> torch.Tensor:
    """Differentiates itself: the distances are computed before the model, and the model goes back through them."""
    return rows.requires_grad_() * 1.5


class Backwards(nn.Module):
    """The gradient of the squares of what comes in."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad((rows**2).sum(), rows)[0]


class Scale(nn.Module):
    """Needs no gradients; fails where any are recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3.0))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        found = rows * self.factor
        assert not found.requires_grad
        return found


Graphs = dict[str, torch.Tensor]


def to_graphs(rows: list[str]) -> Graphs:
    """JSON rows with `positions`, atoms of three numbers each, as one batch of atoms."""
    positions = [torch.tensor(json.loads(row)["positions"]) for row in rows]
    sizes = torch.tensor([len(atoms) for atoms in positions])
    return {"positions": torch.cat(positions), "sizes": sizes}


def of_energy(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return outputs["energy"]


class Springs(nn.Module):
    """Atoms that are all bound to all others of their row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.strength = nn.Parameter(torch.rand(()))

    def forward(self, positions: torch.Tensor, sizes: torch.Tensor) -> dict[str, torch.Tensor]:
        positions = positions.requires_grad_()
        rows = positions.split(sizes.tolist())
        energy = torch.stack([self.strength * torch.pdist(atoms).square().sum() for atoms in rows])
        (gradient,) = torch.autograd.grad(energy.sum(), positions)
        rows = (-gradient).split(sizes.tolist())
        return {"energy": energy, "forces": torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)}
