"""How long a rank exchanges tensors with its group; what real ranks tell of it is in test_pages_groups.py."""

import time

import pytest
import torch

from runner.parallel.group_timer import GroupTimer


def test_waits_are_counted_in_calls_and_outside_of_them() -> None:
    timer = GroupTimer(torch.device("cpu"))

    def compute() -> str:
        time.sleep(0.05)
        with timer.waiting():
            time.sleep(0.1)
        return "found"

    began = time.perf_counter()
    with timer.waiting():
        time.sleep(0.1)
    assert [timer.call(compute) for _ in range(3)] == ["found"] * 3  # the second is one that is sampled
    elapsed = time.perf_counter() - began
    assert 0.4 <= timer.seconds <= elapsed - 0.15
    timer.begin()
    assert timer.seconds == 0


def test_a_call_that_fails_leaves_no_trace() -> None:
    timer = GroupTimer(torch.device("cpu"))

    def fail() -> None:
        with timer.waiting():
            raise ValueError("a row")

    for _ in range(3):
        with pytest.raises(ValueError, match="a row"):
            timer.call(fail)
    assert timer.seconds < 1
    assert timer.call(lambda: torch.ones(2) + 1).tolist() == [2, 2]
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()
