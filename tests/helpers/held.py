"""Models that hold what decides their answer in some other way than as parameters and buffers.

None is seeded: each would be another model on each rank, if it were built there.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

WIDTH = 8


class Scaler:
    """As scikit-learn's, made of tensors."""

    def __init__(self) -> None:
        self.mean, self.scale = torch.randn(WIDTH), torch.rand(WIDTH) + 0.5

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows - self.mean) / self.scale


class Scaled(nn.Module):
    """A tensor inside of an object that is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scaler = nn.Linear(WIDTH, 3), Scaler()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(self.scaler(rows))


class Nested(nn.Module):
    """Tensors deep in dicts and lists."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3)
        self.tables = {"a": [{"shift": torch.randn(3)}], "b": (torch.randn(3), None)}

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows) * self.tables["b"][0] + self.tables["a"][0]["shift"]


@dataclasses.dataclass
class Statistics:
    mean: torch.Tensor
    deviation: np.ndarray


class InADataclass(nn.Module):
    """A tensor and a NumPy array."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3)
        self.statistics = Statistics(torch.randn(WIDTH), np.random.default_rng().random(WIDTH, dtype=np.float32))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear((rows - self.statistics.mean) / torch.from_numpy(self.statistics.deviation))


class InAList(nn.Module):
    """Layers in a plain list, of which no module knows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(WIDTH, WIDTH) for _ in range(3)]
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            rows = torch.tanh(layer(rows))
        return self.head(rows)


class InAClosure(nn.Module):
    """A function that refers to tensors, one that a library has given arguments, and a lambda."""

    def __init__(self) -> None:
        super().__init__()
        shift = torch.randn(WIDTH)
        self.linear, self.act = nn.Linear(WIDTH, 3), lambda rows: rows + shift
        self.affine = functools.partial(torch.addcmul, value=0.5, tensor2=torch.randn(3))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        out = self.linear(self.act(rows))
        return self.affine(out, out)


class Views(nn.Module):
    """Parameters that are parts of one tensor, and a tied one."""

    def __init__(self) -> None:
        super().__init__()
        both = torch.randn(6, WIDTH)
        self.first, self.second = nn.Parameter(both[:3]), nn.Parameter(both[3:])
        self.again = self.first

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ self.first.T + torch.tanh(rows @ self.second.T) * (rows @ self.again.T)


@functools.lru_cache
def table() -> torch.Tensor:
    return torch.arange(float(WIDTH)) + 1


class Cached(nn.Module):
    """A table of the module, made when it is first asked for, and looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3 if table()[1].item() == 2 else 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows * table())


_TABLES: dict[str, torch.Tensor] = {}


class Global(nn.Module):
    """A table of the module that the factory has filled."""

    def __init__(self) -> None:
        super().__init__()
        _TABLES["scale"] = torch.arange(float(WIDTH)) + 1
        self.linear = nn.Linear(WIDTH, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows * _TABLES["scale"])


class Imported(nn.Module):
    """A table that a library makes when it is imported, which the factory does."""

    def __init__(self) -> None:
        super().__init__()
        import lazy_tables

        self.linear, self.table = nn.Linear(WIDTH, 3), lazy_tables.TABLE

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        import lazy_tables

        return self.linear(rows * lazy_tables.TABLE + self.table)


class Chosen(nn.Module):
    """A NumPy array, a generator of random numbers, a lock, and a choice that was drawn."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng()
        self.columns = rng.permutation(WIDTH)[:5]
        self.linear, self.rng, self.lock = nn.Linear(5, 3), torch.Generator(), threading.Lock()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        with self.lock:
            return self.linear(rows[:, self.columns])


def scripted() -> nn.Module:
    """TorchScript."""
    return torch.jit.script(nn.Sequential(nn.Linear(WIDTH, 3), nn.Tanh()))


class WithAScript(nn.Module):
    """TorchScript inside of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = torch.jit.trace(nn.Linear(WIDTH, WIDTH), torch.ones(2, WIDTH)), nn.Linear(WIDTH, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(rows))


def exported() -> nn.Module:
    """A program of torch.export, which has no evaluation mode."""
    batch = {0: torch.export.Dim("batch", min=1)}
    return torch.export.export(nn.Linear(WIDTH, 3), (torch.ones(2, WIDTH),), dynamic_shapes=(batch,)).module()


def graph() -> nn.Module:
    """A graph of torch.fx, which pickle traces anew: then it holds its constant twice."""
    root, nodes = nn.Module(), fx.Graph()
    root.register_buffer("table", torch.randn(WIDTH))
    rows, table = nodes.placeholder("rows"), nodes.get_attr("table")
    nodes.output(nodes.call_function(torch.mul, (rows, nodes.call_function(torch.exp, (table,)))))
    return fx.GraphModule(root, nodes)


def function() -> Callable[[torch.Tensor], torch.Tensor]:
    """No module, but a function around one."""
    module = nn.Linear(WIDTH, 3).eval()
    return lambda rows: torch.tanh(module(rows))


class Normed(nn.Module):
    """A weight that PyTorch computes from others whenever it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, 3))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows)


class Unsendable(nn.Module):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.numbers = nn.Linear(WIDTH, 3), (n for n in range(3))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows)


class Sets(nn.Module):
    """A factory that sets what all of PyTorch then does."""

    def __init__(self) -> None:
        super().__init__()
        torch.use_deterministic_algorithms(True)
        self.linear = nn.Linear(WIDTH, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows) + float(torch.are_deterministic_algorithms_enabled())


WAYS: tuple[Callable[[], Any], ...] = (
    Scaled,
    Nested,
    InADataclass,
    InAList,
    InAClosure,
    Views,
    Cached,
    Global,
    Imported,
    Chosen,
    scripted,
    WithAScript,
    exported,
    graph,
    function,
    Normed,
    Unsendable,
    Sets,
)
