"""Models that are split over ranks, and how."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
import zoo
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

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
                zoo.await_commits(self.flag.absolute().parent, 2)
                self.flag.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        if bool((rows[:, 0] == self.bad).any()):
            raise ValueError("a row that this model does not take")
        time.sleep(self.hold)
        for up, down in zip(self.up, self.down, strict=True):
            rows = rows + down(torch.relu(up(rows)))
        return self.norm(rows) * self.scale


class Chain(nn.Module):
    """Layers one after another between others, with a parameter and a mask of its own, and ways to fail.

    A row that holds `bad` in its first column raises in the last layer, one that holds `deadly` kills the process of
    that stage, once: the file `flag` goes. `strange` makes it hard to cut: with "jump", what an early layer gives goes
    around a later one; with "value", the forward depends on what a layer gives; with "twice", a layer is called again.
    """

    def __init__(self, layers: int = 5, bad: float = 1e9, deadly: float = 1e9, strange: str = "") -> None:
        super().__init__()
        torch.manual_seed(2)
        self.offset = nn.Parameter(torch.randn(WIDTH))
        self.embed = nn.Linear(WIDTH, 32)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True) for _ in range(layers)
        )
        self.narrow = nn.Linear(32, 8)
        self.head = nn.Linear(8, 4)
        self.head.register_forward_pre_hook(self._check)
        self.bad, self.deadly, self.strange, self._first = bad, deadly, strange, torch.zeros(0)

    def _check(self, module: nn.Module, inputs: Any) -> None:
        if not isinstance(module.weight, FakeTensor):  # on its own stage alone
            if bool((self._first == self.deadly).any()) and Path("flag").exists():
                zoo.await_commits(Path.cwd(), 2)
                Path("flag").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            if bool((self._first == self.bad).any()):
                raise ValueError("a row that this model does not take")

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        self._first = rows[:, 0]
        hidden = self.embed(rows + self.offset).unsqueeze(1) * torch.linspace(0.5, 1, 3)[:, None]
        early, mask = hidden, torch.zeros(3, 3)
        for layer in (*self.layers, self.layers[-1]) if self.strange == "twice" else self.layers:
            hidden = layer(hidden, src_mask=mask)
        if self.strange == "jump":
            hidden = hidden + early
        if self.strange == "value" and bool((hidden > 0).all()):
            hidden = -hidden
        return {"class": self.head(self.narrow(hidden).mean(dim=1)), "hidden": hidden[:, 0]}


def plan(model: nn.Module) -> dict[str, Any]:
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

    return {"up.*": ColwiseParallel(), "down.*": RowwiseParallel()}


def plan_of_ends(model: nn.Module) -> dict[str, Any]:
    """Of a Chain: what is in the first stage, and what is in the last."""
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel

    whole = ColwiseParallel(output_layouts=Replicate())
    return {"embed": whole, "narrow": whole}


def plan_of_what_is_not_there(model: nn.Module) -> dict[str, Any]:
    return {"middle.*": plan(model)["up.*"]}


def broken_plan(model: nn.Module) -> dict[str, Any]:
    raise KeyError("layers")


def causal_model(folder: Path, family: str = "Llama", **settings: object) -> None:
    """A causal model of random weights, with its own plan."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        vocab_size=200, max_position_embeddings=64, **{"num_hidden_layers": 2, **settings},
    )  # fmt: skip
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder)
