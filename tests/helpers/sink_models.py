"""Models with predictions of every kind; apart from the tests of outputs, whose libraries ranks need not import."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
import zoo
from torch import nn


class Fixed(nn.Module):
    """One vector a row."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * 2


class Several(nn.Module):
    """Outputs by name, of several dtypes."""

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "double": (rows * 2).double(),
            "label": rows[:, 0].gt(0),
            "rank": rows.argsort()[:, 0],
            "half": rows.half(),
        }


class Unlike(nn.Module):
    """Rows of unlike lengths, of vectors and of numbers, and text."""

    def forward(self, rows: torch.Tensor) -> dict[str, Any]:
        lengths = (rows[:, 0] * 1000).long().abs() % 5
        spans = [row[: int(length)] for row, length in zip(rows, lengths, strict=True)]
        tokens = [torch.stack([span, -span], dim=1) for span in spans]
        return {
            "first": rows[:, 0],
            "spans": torch.nested.nested_tensor(spans),
            "tokens": torch.nested.nested_tensor(tokens, layout=torch.jagged)
            if lengths.any()
            else tokens_of_none(rows),
            "words": [f"möglich {int(length)}," * int(length) for length in lengths],
        }


def tokens_of_none(rows: torch.Tensor) -> torch.Tensor:
    return torch.nested.nested_tensor([torch.empty(0, 2) for _ in rows])


class Refuses(Unlike):
    def forward(self, rows: torch.Tensor) -> Any:
        if (rows[:, 1] > 1.5).any():
            raise ValueError("too large")
        return super().forward(rows)


class Masks(nn.Module):
    """Of images: for each pixel its brightest channel, as a number that needs 16 bits where it is blue."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if (pixels[:, :, 0, 0] == 0).all(dim=1).any():
            raise ValueError("the first pixel is black")
        return pixels.argmax(dim=1) * 150


class Dies(nn.Module):
    """Ends its process at a batch, once: when three chunks are recorded in the folder `run`."""

    def __init__(self, flag: str, run: str, calls: int) -> None:
        super().__init__()
        self.flag, self.run, self.left = Path(flag), Path(run), calls

    def forward(self, rows: torch.Tensor) -> Any:
        self.left -= 1
        if not self.left and not self.flag.exists():
            zoo.await_commits(self.run, 3)
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(rows)


class UnlikeDies(Dies, Unlike):
    pass


class SeveralDies(Dies, Several):
    pass
