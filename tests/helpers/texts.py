"""Models and functions for rows of text."""

import os
from pathlib import Path

import torch


def asked(rows: list[str]) -> list[str]:
    """A prompt before each."""
    return [f"node rank {row}" for row in rows]


def in_pairs(rows: list[str]) -> tuple[list[str], list[str]]:
    return ["queue"] * len(rows), rows


def by_name(rows: list[str]) -> dict[str, list[str]]:
    return {"question": ["queue"] * len(rows), "answer": rows}


def one_too_few(rows: list[str]) -> list[str]:
    return rows[1:] if len(rows) > 1 else rows


def not_poison(rows: list[str]) -> list[str]:
    """Fails at a row that says so."""
    if any("poison" in row for row in rows):
        raise ValueError("poison in the prompt")
    return rows


def once_not_later(rows: list[str]) -> list[str]:
    """Fails at a row that says `later`, as long as there is the file that RUNNER_TEST_FLAG names."""
    if any("later" in row for row in rows) and Path(os.environ["RUNNER_TEST_FLAG"]).exists():
        raise ValueError("not yet")
    return rows


def as_numbers(rows: list[str]) -> torch.Tensor:
    return torch.tensor([[len(row), row.count("a")] for row in rows])


class Counts:
    """A callable that takes texts."""

    def __call__(self, rows: list[str]) -> torch.Tensor:
        return as_numbers(rows)


class CountsPairs(torch.nn.Module):
    """A module that takes columns of text by their names, and of numbers."""

    def forward(self, text: list[str], more: list[str], number: torch.Tensor) -> torch.Tensor:
        return as_numbers(text) + as_numbers(more) + number[:, None]
