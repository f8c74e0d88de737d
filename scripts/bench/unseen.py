"""The runner's command line without what lets people see: no timeline, no display, no status, no page.

`seen.py` starts it as the baseline; nothing else should.
"""

import sys
import types
from typing import Any

import runner.records.recorder
import runner.telemetry.timeline
from runner.cli.main import main


class NoProgress:
    def __init__(self, *_: Any) -> None:
        pass

    def add(self, commit: Any) -> None:
        pass

    def close(self) -> None:
        pass


def nothing(*_: Any) -> None:
    pass


if __name__ == "__main__":
    for name in ("turn", "add", "count_batch"):
        setattr(runner.telemetry.timeline.Timeline, name, nothing)
    runner.records.recorder.Progress = NoProgress  # type: ignore[assignment,misc]
    pages = types.ModuleType("runner.reports.pages")
    pages.prepare = pages.write_page = nothing  # type: ignore[attr-defined]
    sys.modules["runner.reports.pages"] = pages
    sys.exit(main())
