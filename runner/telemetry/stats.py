"""Figures of one rank in the report."""

from dataclasses import dataclass, field


@dataclass
class RankStats:
    """Figures of one rank; rows, bytes and seconds as the names tell.

    Attributes:
        began: start of its process, in seconds since the start of rank 0's.
        output_bytes: size of the predictions that it has computed.
        peak_rss_bytes: the most memory that its process held.
        peak_gpu_bytes: the most GPU memory that PyTorch held for it.
        seconds: time by phase, see `runner.telemetry.timeline.PHASES`: the phases of its main thread add up to the age
            of its process, the others run at the same time. "wait" is the sum of the three waiting phases.
        batches: number of batches that it has computed.
        batch_seconds: mean time from a batch's call of the model until its predictions were on the CPU.
        slowest_batch_seconds: the longest of these times.
        part_bytes: size of the parameters and buffers that it holds, where ranks hold the model together.
        group_seconds: part of its forward time in which it exchanged tensors with its group or waited for it.
    """

    rank: int
    host: str
    device: str
    threads: int
    began: float = 0.0
    rows: int = 0
    chunks: int = 0
    output_bytes: int = 0
    startup_seconds: float = 0.0
    loop_seconds: float = 0.0
    peak_rss_bytes: int = 0
    peak_gpu_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    batches: int = 0
    batch_seconds: float = 0.0
    slowest_batch_seconds: float = 0.0
    part_bytes: int = 0
    group_seconds: float = 0.0
