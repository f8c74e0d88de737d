"""Record of a chunk whose predictions are in the output."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Commit:
    """Record of a committed chunk.

    Attributes:
        chunk: index of the chunk.
        start, stop: its half-open range of rows.
        checksum: checksum of the bytes of its rows as they are in the output.
        inputs: checksum of the rows it was computed from; empty where some could not be read.
        rank: the rank that computed it.
        seconds: time of the computation, in seconds.
        began: start of the computation, in seconds since the start of the job.
        nonfinite: number of its rows that hold a NaN or an infinity, bad rows not counted.
        bad: its rows that failed, each with `row`, `error`, `traceback` and, if there are passthrough columns, their
            values, `kept`; the predictions there are the fill value, or a response that tells the error.
        halved: `[first, last]` of each batch that was computed in smaller pieces, because it ran out of memory.
        cut_rows: number of its rows that are texts cut by the model's tokenizer, bad rows not counted.
        cut_tokens: number of tokens that these rows lost.
        token_limit: the most tokens a row may have; 0 where none was cut.
        counts: sums over its rows of what the model counts, by name, bad rows not counted.
    """

    chunk: int
    start: int
    stop: int
    checksum: str
    inputs: str
    rank: int
    seconds: float
    began: float = 0.0
    nonfinite: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)
    halved: list[list[int]] = field(default_factory=list)
    cut_rows: int = 0
    cut_tokens: int = 0
    token_limit: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return the number of its rows."""
        return self.stop - self.start

    @property
    def ended(self) -> float:
        """Return the end of the computation, in seconds since the start of the job."""
        return self.began + self.seconds
