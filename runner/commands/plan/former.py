"""The figures of a previous run's report on one rank, or on one group of ranks that held the model together."""

import json
from pathlib import Path

from runner.commands.plan.estimate import Pace
from runner.core.errors import InputError, describe


class PreviousReport:
    """The `report.json` of a previous run.

    Attributes:
        world_size: number of its ranks.
        model_parallel: number of ranks that held a replica together.
        memory: peak bytes of rank 0, and of the largest other rank.
        pace: speed of one rank or group.

    Raises:
        InputError: it is not a report, or its job computed nothing.
    """

    def __init__(self, path: str) -> None:
        try:
            report = json.loads(Path(path).read_text())
            self.world_size: int = report["world_size"]
            self.model_parallel: int = report.get("config", {}).get("model-parallel", 1)
            peaks: list[int] = report["peak_rss_bytes"]
            self.memory = peaks[0], max(peaks[1:] or peaks)
            rows_per_second = report["rows_per_second"] / (self.world_size // self.model_parallel)
            is_of_a_job = self.world_size > 1
            self.pace = Pace(rows_per_second, report["startup_seconds"], 0, is_of_a_job, self.model_parallel)
        except OSError as error:
            raise InputError(f"--report {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, ZeroDivisionError) as error:
            raise InputError(f"--report {path} is not the report.json of a run: {describe(error)}") from error
        if not rows_per_second > 0:
            raise InputError(f"--report {path} is of a job that computed no rows; use another")
