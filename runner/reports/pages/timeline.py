"""Phases and rows of all ranks over time: from `timeline.json`, or from the chunks in the ledger."""

from typing import NamedTuple

import numpy as np

from runner.reports.pages.record import Job
from runner.reports.pages.values import Fields


class Timeline(NamedTuple):
    """Shares of time in bins of equal width.

    Attributes:
        began, width: start of the first bin, in seconds since rank 0's process started, and width of each.
        main, others: by phase, of the main threads and of others, its share of each bin in per cent: `(ranks, bins)`.
        rows: `(bins,)`, of all ranks.
    """

    began: float
    width: float
    main: dict[str, np.ndarray]
    others: dict[str, np.ndarray]
    rows: np.ndarray

    @property
    def edges(self) -> list[float]:
        """Return where the bins begin, and where the last ends."""
        return [self.began + self.width * index for index in range(len(self.rows) + 1)]


def read_timeline(values: Fields) -> Timeline | None:
    """Return the contents of `timeline.json`; None where it is not what it should be."""
    try:
        rows = np.array(values["rows"], float)
        width = (values["ended"] - values["began"]) / len(rows)
        names = [*values["main"], *values["others"]]
        shares = np.array([values["phases"][name] for name in names], float).reshape(len(names), -1, len(rows))
        if not (width > 0 and np.isfinite(rows).all() and np.isfinite(shares).all() and shares.size):
            return None
        phases = dict(zip(names, np.rint(shares.clip(0, 100)).astype(int), strict=True))
        main, others = ({name: phases[name] for name in values[key]} for key in ("main", "others"))
        return Timeline(values["began"], width, main, others, rows)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def rows_of(job: Job) -> Timeline | None:
    """Return the rows of a job without a timeline; None where it is not known when it computed any."""
    if not job.timed:
        return None
    bins, ended = max(12, min(120, len(job.timed) // job.num_ranks)), max(commit.ended for commit in job.timed)
    edges, rows = np.linspace(0, ended, bins + 1), np.zeros(bins)
    for commit in job.timed:  # a chunk's rows are evenly spread over its time
        inside = np.clip(edges[1:], commit.began, commit.ended) - np.clip(edges[:-1], commit.began, commit.ended)
        rows += commit.rows * inside / (inside.sum() or 1.0)
    return Timeline(0.0, float(edges[1]), {}, {}, rows)
