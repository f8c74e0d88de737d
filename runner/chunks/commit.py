"""What is recorded of a chunk whose predictions are in the output."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Commit:
    """One committed chunk.

    Attributes:
        chunk: its index.
        start, stop: its rows.
        checksum: of its rows' bytes as they are in the output.
        inputs: the checksum of the rows it was computed from; empty where some could not be read.
        rank: who computed it.
        seconds: the time that took.
        began: when, in seconds since the start of the job.
        nonfinite: how many of its rows hold a NaN or an infinity, bad rows not counted.
        bad: its rows that failed, each with `row`, `error` and `traceback`; the output has a gap there.
        halved: `[first, last]` of each batch that was computed in smaller pieces, for want of memory.
        cut_rows: how many of its rows are texts that the model's tokenizer cut, bad rows not counted.
        cut_tokens: how many tokens they lost.
        token_limit: the most tokens of a row; 0 where none was cut.
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
