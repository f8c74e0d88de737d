"""Tests of the parts in this process; one that starts others says so by the marker `launch`."""

from typing import Any

import launch
import pytest


@pytest.fixture(autouse=True)
def _only_marked_tests_launch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("this test starts processes: mark it with pytest.mark.launch")

    if request.node.get_closest_marker("launch") is None:
        monkeypatch.setattr(launch, "start", refuse)
