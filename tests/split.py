"""Models that are split over ranks, and how."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

WIDTH = 64


class Stack(nn.Module):
    """Pairs of linear layers with a buffer; `hold` seconds a batch, and ways to fail.

    A batch that holds `deadly` in its first column kills the process of rank `victim`, once: the file `flag` goes.
    A row that holds `bad` there raises.
    """

    def __init__(
        self, pairs: int = 2, width: int = WIDTH, hold: float = 0.0, deadly: float = 1e9, victim: int = 0,
        flag: str = "flag", bad: float = 1e9, tied: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        torch.manual_seed(1)
        self.up = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(pairs))
        self.down = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(pairs))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("scale", torch.rand(width), persistent=False)
        if tied:
            self.up[1].weight = self.up[0].weight
        self.hold, self.deadly, self.victim, self.flag, self.bad = hold, deadly, victim, Path(flag), bad

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if bool((rows[:, 0] == self.deadly).any()) and self.flag.exists():
            if os.environ["OMPI_COMM_WORLD_RANK"] == str(self.victim):
                self.flag.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        if bool((rows[:, 0] == self.bad).any()):
            raise ValueError("a row that this model does not take")
        time.sleep(self.hold)
        for up, down in zip(self.up, self.down, strict=True):
            rows = rows + down(torch.relu(up(rows)))
        return self.norm(rows) * self.scale


def plan(model: nn.Module) -> dict[str, Any]:
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

    return {"up.*": ColwiseParallel(), "down.*": RowwiseParallel()}


def plan_of_what_is_not_there(model: nn.Module) -> dict[str, Any]:
    return {"middle.*": plan(model)["up.*"]}


def broken_plan(model: nn.Module) -> dict[str, Any]:
    raise KeyError("layers")
