"""Timeline of one rank, in constant memory however long its job is.

The main thread does one thing at a time, and reports when it begins another: so its phases add up to the age of its
process. The activities of other threads are added as spans.
"""

import math
import time
from itertools import accumulate

import numpy as np

# Phases of the main thread, in the order of a job.
MAIN_PHASES = (
    "launch",  # from the start of the process until it has imported what it needs
    "connect",  # until the ranks have found each other
    "data",  # opening the data set
    "model",  # building the model, reading its weights, sending them
    "checks",  # the first row, the canary
    "output",  # opening the output, checking the chunks of earlier jobs
    "baseline",  # rank 0 alone computes, for --baseline
    "forward",  # the model, post-processing, predictions to the CPU
    "data_wait",  # rows are not read yet
    "backpressure",  # the computed chunks are not collected yet
    "sync_wait",  # its share is done: waits for the last rounds, and for ranks that still compute
    "finish",  # rank 0 completes the output
)
# Phases of other threads at the same time.
OTHER_PHASES = (
    "read",  # reading and preprocessing rows
    "collect",  # rounds that carry predictions
    "write",  # writing predictions, and on rank 0 recording them; inside of collect
)
PHASES = (*MAIN_PHASES, *OTHER_PHASES)
EARLIER_NAMES = {"wait_rows": "data_wait", "wait_room": "backpressure", "wait_ranks": "sync_wait"}

_BINS = 512
_FIRST_BIN_SECONDS = 1 / 64
_MOST_SPANS = 200_000

# Batch latencies are counted by class: 10 classes a decade, from a microsecond on; the last holds all longer ones.
LATENCY_CLASSES_A_DECADE = 10
LATENCY_CLASSES = 90
LATENCY_FROM_SECONDS = 1e-6


class Strip:
    """An amount over time, in bins that become twice as wide when there are too many.

    Attributes:
        total: the amount of all bins.
    """

    def __init__(self) -> None:
        self._bins = [0.0] * _BINS
        self._width = _FIRST_BIN_SECONDS
        self.total = 0.0

    def add(self, began: float, ended: float, amount: float | None = None) -> None:
        """Add an amount, evenly spread over a span, to the bins of the span; by default its seconds."""
        if amount is None:
            amount = ended - began
        self.total += amount
        self._make_room(ended)
        width = self._width
        first = int(began / self._width)
        last = int(ended / self._width)
        if first == last:
            self._bins[first] += amount
            return
        a_second = amount / (ended - began)
        self._bins[first] += a_second * ((first + 1) * width - began)
        for index in range(first + 1, last):
            self._bins[index] += a_second * width
        self._bins[last] += a_second * (ended - last * width)

    def sampled(self, edges: np.ndarray) -> np.ndarray:
        """Return the amount in each interval between two of these moments: `(len(edges) - 1,)` float64."""
        own_edges = np.arange(_BINS + 1) * self._width
        return np.diff(np.interp(edges, own_edges, list(accumulate(self._bins, initial=0.0))))

    def _make_room(self, when: float) -> None:
        while when >= self._width * _BINS:
            pairs = zip(self._bins[::2], self._bins[1::2], strict=True)
            self._bins = [first + second for first, second in pairs] + [0.0] * (_BINS // 2)
            self._width *= 2


class Timeline:
    """Timeline of one rank.

    Times are seconds since this rank's process started; after `align`, since rank 0's process started.

    Args:
        age_seconds: age of this process.
        keeps_spans: whether each span is kept, too, up to a limit.

    Attributes:
        num_dropped: number of spans beyond the limit.
        latencies: number of batches by class of latency.
        batches, batch_seconds, slowest_seconds: number of batches, sum and maximum of their latencies.
    """

    def __init__(self, age_seconds: float, keeps_spans: bool = False) -> None:
        self._origin = time.perf_counter() - age_seconds
        self._shift = 0.0
        self._phase, self._since = MAIN_PHASES[0], 0.0
        self._strips = {phase: Strip() for phase in PHASES}
        self._rows = Strip()
        self._keeps_spans = keeps_spans
        self._spans: list[tuple[str, float, float]] = []
        self.num_dropped = 0
        self.latencies = [0] * LATENCY_CLASSES
        self.batches = 0
        self.batch_seconds = 0.0
        self.slowest_seconds = 0.0

    def now(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._origin + self._shift

    def at(self, perf_counter: float) -> float:
        """Convert a moment of `time.perf_counter` to the seconds of `now()`."""
        return perf_counter - self._origin + self._shift

    @property
    def began(self) -> float:
        """Start of this process, in the seconds of `now()`: 0 on rank 0."""
        return self._shift

    def align(self, root_now: float) -> None:
        """Set the seconds to those of rank 0, whatever the clocks of the hosts show.

        Args:
            root_now: result of `now()` on rank 0 at this moment.
        """
        self._shift = root_now - (time.perf_counter() - self._origin)

    def turn(self, phase: str) -> None:
        """Begin a phase of the main thread."""
        if phase == self._phase:
            return
        now = time.perf_counter() - self._origin
        if self._phase in self._strips:
            self._note(self._phase, self._since, now)
        self._phase, self._since = phase, now

    def end(self) -> None:
        """End the last phase: later time of the main thread is not counted."""
        self.turn("")

    def add(self, phase: str, began: float, ended: float) -> None:
        """Add a span of another thread; its ends are moments of `time.perf_counter`."""
        self._note(phase, began - self._origin, ended - self._origin)

    def count_batch(self, rows: int, seconds: float) -> None:
        """Count a batch: its rows, and the time that the main thread spent on it."""
        now = time.perf_counter() - self._origin
        self._rows.add(max(0.0, now - seconds), now, rows)
        index = int(LATENCY_CLASSES_A_DECADE * math.log10(max(seconds / LATENCY_FROM_SECONDS, 1)))
        self.latencies[min(index, LATENCY_CLASSES - 1)] += 1
        self.batches += 1
        self.batch_seconds += seconds
        self.slowest_seconds = max(self.slowest_seconds, seconds)

    def seconds(self) -> dict[str, float]:
        """Return the total seconds of each phase."""
        return {phase: strip.total for phase, strip in self._strips.items()}

    def spans(self) -> list[tuple[str, float, float]]:
        """Return `(phase, began, ended)` of each kept span, in the seconds of `now()`."""
        return [(phase, began + self._shift, ended + self._shift) for phase, began, ended in self._spans]

    def sampled(self, edges: np.ndarray) -> dict[str, np.ndarray]:
        """Return the share of each phase that took any time, in each interval between two of these moments.

        Args:
            edges: `(n + 1,)`, evenly spaced, in the seconds of `now()`.

        Returns:
            Per cent, `(n,)` uint8, by phase; and "rows", the number of rows, `(n,)` float64.
        """
        own, width = edges - self._shift, edges[1] - edges[0]
        shares = {
            phase: np.clip(np.rint(100 / width * strip.sampled(own)), 0, 100).astype(np.uint8)
            for phase, strip in self._strips.items()
            if strip.total
        }
        return shares | {"rows": self._rows.sampled(own)}

    def _note(self, phase: str, began: float, ended: float) -> None:
        self._strips[phase].add(began, ended)
        if not self._keeps_spans:
            return
        if len(self._spans) < _MOST_SPANS:
            self._spans.append((phase, began, ended))
        else:
            self.num_dropped += 1
