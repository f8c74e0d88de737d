"""What is shown of a traceback: the frames of the user's code."""

import re
from pathlib import Path

import numpy as np
import pytest
from launch import predict_here

CODE = """
import torch
from torch import nn

def check(value):
    if value == 3:
        raise ValueError(f"no {value}")

class Fails(nn.Module):
    def forward(self, rows):
        for row in rows:
            check(int(row[0]))
        return rows

class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(Fails(), nn.Identity())

    def forward(self, rows):
        try:
            return self.layers(rows)
        except ValueError as error:
            raise RuntimeError("the layers failed") from error

def narrow():
    return nn.Sequential(nn.Linear(9, 1))

def no_model():
    return 1 / 0

def identity():
    return nn.Identity()

def prepare(rows):
    return check(int(rows[-1][0])) or rows
"""


@pytest.mark.parametrize(
    ("model", "options", "tracebacks", "spots"),
    [
        ("Fails", [], 1, ["in forward", "in check"]),
        (
            "Inner",
            [],
            2,
            ["in forward", "in check", "ValueError: no 3", "in forward", "RuntimeError: the layers failed"],
        ),
        ("narrow", [], 0, []),
        ("no_model", [], 1, ["in no_model", "ZeroDivisionError"]),
        ("identity", ["--preprocess", "shown:prepare"], 1, ["in prepare", "in check"]),
        ("broken:build", [], 1, ["broken.py", "def build(:", "SyntaxError"]),
    ],
)
def test_only_frames_of_the_users_code(
    model: str, options: list[str], tracebacks: int, spots: list[str], tmp_path: Path
) -> None:
    (tmp_path / "shown.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("def build(:\n    pass\n")
    np.save(tmp_path / "x.npy", np.arange(16, dtype="f4").reshape(4, 4).repeat(8, 0)[:, [3, 0, 1, 2]])
    name = model if ":" in model else f"shown:{model}"
    job = ["--model", name, "--weights", "none", "--data", "x.npy", "--output", "y.npy", "--batch-size", "32", *options]
    outcome = predict_here(*job, folder=tmp_path)
    assert outcome.code == 65, outcome.output
    said = outcome.output
    assert said.count("Traceback") == tracebacks, said
    assert "(most recent call last; -v shows all frames)" in said or not tracebacks
    assert all("broken.py" in line or "shown.py" in line for line in re.findall('File "(.*)"', said)), said
    assert re.search(".*".join(map(re.escape, spots)), said, re.DOTALL), said
    assert said.rstrip().splitlines()[-1].startswith("runner: error: ")
    everything = predict_here(*job, "-v", "--fresh", folder=tmp_path).output
    assert len(re.findall('File "', everything)) > len(re.findall('File "', said)), everything
