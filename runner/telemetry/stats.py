"""What one rank tells of itself at the end. Pure."""

from dataclasses import dataclass, field


@dataclass
class RankStats:
    """One rank in the report; rows, bytes and seconds as the names say.

    Attributes:
        began: when its process started, in seconds since that of rank 0 did.
        output_bytes: of the predictions that it has computed.
        peak_rss_bytes: the most memory that its process held.
        peak_gpu_bytes: the most GPU memory that PyTorch held for it.
        seconds: by what `runner.telemetry.timeline.PHASES` names: those of its main thread add up to the age of its
            process, the others lie beside them. "wait" is the sum of the three ways to wait.
        batches: that it has computed.
        batch_seconds: on average, from a batch's call of the model until its predictions were on the CPU.
        slowest_batch_seconds: the greatest of these.
        part_bytes: of the parameters and buffers that it holds, where ranks hold the model together.
        group_seconds: of its forward, how long it exchanged tensors with the ranks of its group or waited for them.
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
