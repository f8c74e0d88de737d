"""Small models and functions that the tests hand to the runner, as a user would: `zoo:mlp`."""

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn


def mlp(width: int = 16, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Linear(width, 10))


class Pixels(nn.Module):
    """Images `(batch, 3, 6, 5)` to images `(batch, 2, 6, 5)`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images)


class Cast(nn.Module):
    """Vectors, or one score a row, in a dtype of choice."""

    def __init__(self, dtype: str, score: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.linear = nn.Linear(8, 5)
        self.dtype, self.score = getattr(torch, dtype), score

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        out = self.linear(rows)
        out = out > 0 if self.dtype is torch.bool else (out * 100).to(self.dtype)
        return out[:, 0] if self.score else out


class Odd(nn.Module):
    """All that makes weights hard to send: tied and shared parameters, a buffer that is not saved, bfloat16, bool,
    a scalar, channels_last, an LSTM, and a tensor that is a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, 8, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("hidden", torch.randn(8), persistent=False)
        self.register_buffer("mask", torch.rand(8) > 0.5)
        self.register_buffer("scale", torch.rand(()))
        self.brain = nn.Parameter(torch.randn(8).to(torch.bfloat16))
        self.conv = nn.Conv2d(1, 4, 3, padding=1).to(memory_format=torch.channels_last)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.plain = torch.randn(8)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        out = self.head(self.embed(rows)) * self.scale + self.hidden * self.mask + self.brain.float() + self.plain
        out = out + self.conv(rows.reshape(-1, 1, 2, 4)).mean(dim=1).reshape(-1, 8)
        return out + self.lstm(out[:, None])[0][:, 0]


class LooksAtItself(nn.Module):
    """Cannot be built on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, int(torch.full((), 3.0).item()))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows)


class ByRank(nn.Module):
    """Other layers on each rank, and cannot be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.numbers = nn.Linear(8, 2 + own_rank()), (n for n in range(3))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows)


def own_rank() -> int:
    return int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))


class Identity(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


class FailsAtRow(nn.Module):
    """Raises at the batch that holds a row whose first column is `value`."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if bool((rows[:, 0] == self.value).any()):
            raise ValueError("cannot digest this row")
        return rows * 2


def await_commits(folder: Path, number: int) -> None:
    """Wait until the ledgers below a folder name so many chunks, for a minute at most.

    What is computed is recorded by other threads and ranks: without it, a busy machine may die before it has anything
    to go on from.
    """
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        if sum(path.read_text().count('{"chunk": ') for path in folder.rglob("ledger.jsonl")) >= number:
            return
        time.sleep(0.02)


class DiesOnce(nn.Module):
    """`mlp`, slowly; where the file `flag` exists, the process kills itself at the batch that holds `value`.

    Args:
        value: in the first column.
        flag: its process ends when jobs below the folder of this file have recorded `commits` chunks.
        seconds: of a batch.
        slowly: a file; if given, batches take their time only for as long as it is there.
        commits: see flag.
    """

    def __init__(self, value: float, flag: str, seconds: float = 0.02, slowly: str = "", commits: int = 3) -> None:
        super().__init__()
        self.inner, self.value, self.flag, self.seconds = mlp(), value, Path(flag), seconds
        self.slowly, self.commits = slowly, commits

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if bool((rows[:, 0] == self.value).any()) and self.flag.exists():
            await_commits(self.flag.parent, self.commits)
            self.flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if not self.slowly or Path(self.slowly).exists():
            time.sleep(self.seconds)
        return self.inner(rows)


class Wrong(nn.Module):
    """Outputs that cannot be kept."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, rows: torch.Tensor) -> Any:
        if self.what == "words":
            return {"rows": rows, "words": "many"}
        if self.what == "nothing":
            return None
        if self.what == "fewer rows":
            return rows[:-1]
        if self.what == "no rows":
            return rows.sum()
        return rows.repeat(1, 1 + int(rows.shape[0] > 1))  # another width for another batch


class Wide(nn.Module):
    """A few numbers in, `width` out: much to collect for little work."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows[:, :1].expand(-1, self.width)


class Several(nn.Module):
    """Several outputs by name, of unlike shapes and dtypes; logits with a NaN for rows that begin with `value`."""

    def __init__(self, value: float = 1e9, fails_at: float = 1e9) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.linear, self.value, self.fails_at = nn.Linear(8, 5), value, fails_at

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor | None]:
        if bool((rows[:, 0] == self.fails_at).any()):
            raise ValueError("cannot digest this row")
        logits = self.linear(rows)
        logits = torch.where(rows[:, :1] == self.value, torch.nan, logits)
        pairs = rows[:, :6].reshape(-1, 3, 2).to(torch.bfloat16)
        return {
            "logits": logits,
            "label": rows[:, 1:].argmax(dim=1),
            "pairs": pairs,
            "good": rows[:, 1] > 0,
            "no": None,
        }


class TakesSeveral(nn.Module):
    """The outputs of `Several` as inputs."""

    def forward(
        self, logits: torch.Tensor, label: torch.Tensor, pairs: torch.Tensor, good: torch.Tensor
    ) -> torch.Tensor:
        return logits.sum(dim=1) * label + pairs.sum(dim=(1, 2)) + good


def raises() -> nn.Module:
    raise RuntimeError("no such architecture")


def not_a_module() -> list[int]:
    return [1]


def halve(rows: torch.Tensor) -> torch.Tensor:
    return rows.to(torch.float32) / 2


def first_column(output: torch.Tensor) -> torch.Tensor:
    return output[:, 0]


NUMBER = 3


class HangsAtRow(nn.Module):
    """Goes silent, in one of several ways, at the batch that holds a row whose first column is `value`.

    Makes the file `flag`, if given, when it does.
    """

    def __init__(self, value: float, how: str, flag: str = "") -> None:
        super().__init__()
        self.value, self.how, self.flag = value, how, flag

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if bool((rows[:, 0] == self.value).any()):
            if self.flag:
                Path(self.flag).touch()
            if self.how == "sleep":
                time.sleep(600)
            elif self.how == "exit":
                os._exit(0)
            elif self.how == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.01)
        return rows * 2


def blocks(rows: torch.Tensor) -> torch.Tensor:
    """A `--preprocess` that waits for ever for the rows after number 1000 of `arange` data."""
    if rows[0, 0] > 1000:
        time.sleep(600)
    return rows


class Picky(nn.Module):
    """`mlp` that refuses rows whose first column is NaN or above 1e6; in the dtype asked for."""

    def __init__(self, dtype: str = "float32") -> None:
        super().__init__()
        self.inner, self.dtype = mlp(), getattr(torch, dtype)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if not bool((rows[:, 0] < 1e6).all()):
            raise ValueError("a row that is not a number")
        return self.inner(rows).to(self.dtype)


class Breaks(nn.Module):
    """Like a device that is broken for good: from its 20th call on it fails for every row."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls >= 20:
            raise RuntimeError("device-side assert triggered")
        return rows


def refuse_negative(rows: torch.Tensor) -> torch.Tensor:
    """A `--preprocess` that refuses rows whose second column is below -1e6."""
    if bool((rows[:, 1] < -1e6).any()):
        raise ArithmeticError("below zero")
    return rows


class Deviates(nn.Module):
    """`mlp` whose output is off by the factor `1 + off` on one rank, after so many calls."""

    def __init__(self, rank: int, off: float, after: int = 0, flag: str = "") -> None:
        super().__init__()
        self.inner, self.calls, self.flag = mlp(), 0, flag
        self.rank, self.after, self.off = rank, after, off

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        wrong = self.calls > self.after and (not self.flag or Path(self.flag).exists()) and own_rank() == self.rank
        return self.inner(rows) * (1 + (self.off if wrong else 0))


class Chance(nn.Module):
    """Another answer at each call."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.rand(len(rows), 3)


class Remembers(nn.Module):
    """Adds what it was last called with, until it is reset."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp().eval()
        self.reset_states()

    def reset_states(self) -> None:
        self.state = torch.zeros(10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        out = self.inner(rows) + self.state
        self.state = out.mean(dim=0)
        return out


class Reciprocal(nn.Module):
    """1 / row, in the dtype asked for: infinite for 0."""

    def __init__(self, dtype: str = "float32") -> None:
        super().__init__()
        self.dtype = getattr(torch, dtype)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (1 / rows).to(self.dtype)


class Hungry(nn.Module):
    """`mlp` that allocates `row_bytes` for each row, in a process that may have only `limit_bytes` more than now."""

    def __init__(self, row_bytes: int, limit_bytes: int) -> None:
        super().__init__()
        self.inner, self.row_bytes, self.limit_bytes = mlp(), row_bytes, limit_bytes

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if not bool((rows[:, 0] < 1e6).all()):
            raise ValueError("a row that is not a number")
        used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used_bytes + self.limit_bytes, resource.RLIM_INFINITY))
        try:
            work = torch.empty(len(rows), self.row_bytes, dtype=torch.uint8)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return self.inner(rows) + work[0, 0] * 0


def first_eight(rows: torch.Tensor) -> torch.Tensor:
    """A `--preprocess` that keeps the first eight columns."""
    return rows[:, :8]


class OneIsSlow(nn.Module):
    """`mlp` that takes `seconds` a batch, and `factor` times as long on one rank."""

    def __init__(self, rank: int, seconds: float, factor: float) -> None:
        super().__init__()
        self.inner, self.rank, self.seconds, self.factor = mlp(), rank, seconds, factor

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds * (self.factor if own_rank() == self.rank else 1))
        return self.inner(rows)


class Tokens(nn.Module):
    """Token lists, padded, and their mask, to the mean of their embeddings through a small network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.embed, self.head = nn.Embedding(100, 6), nn.Linear(6, 6)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask[..., None].float()
        return self.head((self.embed(tokens) * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1))


class TokensDieOnce(Tokens):
    """`Tokens`, slowly; where the file `flag` exists, the process kills itself at a call, when chunks are recorded."""

    def __init__(self, calls: int, flag: str) -> None:
        super().__init__()
        self.calls, self.flag = calls, Path(flag)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.calls -= 1
        if self.calls == 0 and self.flag.exists():
            await_commits(self.flag.parent, 3)
            self.flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return super().forward(tokens, mask)


class Counts(nn.Module):
    """Writes to its own weights: a prediction is the number of forward calls so far."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1 << 16), requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.weight += 1
        return self.weight[0].repeat(len(rows))


class TwoColumns(nn.Module):
    """Of a table: what is in a column x, twice, and what is in a column whole."""

    def forward(self, x: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        return x * 2 + whole
