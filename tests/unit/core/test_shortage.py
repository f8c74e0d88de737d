"""Errors of memory and of threads name the limits that there are, and what to do."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import environment, predict_command, run
from torch import nn

from runner.core.errors import as_runner_error, describe
from runner.core.limits import memory_limits, task_limits

ASKS = """
from runner.core.errors import describe
try:
    bytearray(1 << 40)
except MemoryError as error:
    print(describe(error))
"""


STARTS = """
import threading
from runner.core.errors import as_runner_error, render
threading.stack_size(1 << 34)
try:
    threading.Thread(target=print).start()
except RuntimeError as exception:
    error = as_runner_error(exception)
    print(error.exit_code, render(error))
"""


class Hog(nn.Module):
    """Takes 16 GB to answer a row."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + torch.ones(len(rows), 4_000_000_000)[:, :1]


def limited(*command: str | Path) -> list[str | Path]:
    return ["bash", "-c", 'ulimit -v 6291456; exec "$@"', "bash", *command]


def test_limits_by_name() -> None:
    said = subprocess.run(limited(sys.executable, "-c", ASKS), capture_output=True, text=True, check=True).stdout
    assert said.startswith("MemoryError [memory: ulimit -v allows 6 GiB, ")
    assert ("the control group allows" in said) == bool(memory_limits())
    assert "(Slurm: --mem; a container: its limit)" in said
    out = torch.OutOfMemoryError("CUDA out of memory. GPU 0 has a total capacity of 139 GiB")
    assert describe(out).endswith(
        "139 GiB [one rank on each GPU, a GPU with more memory, --dtype bfloat16 or --model-parallel may help]"
    )
    assert describe(ValueError("CUDA out of memory")) == "ValueError: CUDA out of memory"
    assert as_runner_error(MemoryError()).exit_code == 65


def test_limits_of_threads() -> None:
    """A stack that does not fit is told as any other thread that cannot be started."""
    said = subprocess.run(limited(sys.executable, "-c", STARTS), capture_output=True, text=True, check=True).stdout
    assert said.startswith("64 runner: error: a thread that the runner needs cannot be started: RuntimeError: can't ")
    assert ("the control group allows" in said) == bool(task_limits())
    assert "ulimit -v allows 6 GiB. Raise the least of them" in said
    assert as_runner_error(RuntimeError("another")).exit_code == 70


@pytest.mark.launch
@pytest.mark.cold
def test_a_row_that_does_not_fit(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY:
        pytest.skip("a limit of its own")
    np.save(tmp_path / "d.npy", np.zeros((9, 3), "f4"))
    command = predict_command("--model", "test_shortage:Hog", "--data", "d.npy", "--output", "p.npy")
    outcome = run(limited(*command), tmp_path, env=environment())
    assert outcome.code == 65, outcome.output
    assert outcome.output.count("[memory: ulimit -v allows 6 GiB, ") == 1
    assert "runner: error: the model failed on row 0: RuntimeError: " in outcome.output
