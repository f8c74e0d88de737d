"""What one rank counts while it works. Pure."""

from dataclasses import dataclass, field


@dataclass
class Seconds:
    """Where the time of a rank went. Reading, collecting and writing overlap the forward calls.

    Attributes:
        read: reading and preprocessing rows.
        forward: in the model and post-processing, and copying predictions to the CPU.
        wait: the model's thread waited for rows, or for room in the outgoing stream.
        collect: rounds that carried predictions.
        write: writing predictions, and on rank 0 recording them.
    """

    read: float = 0.0
    forward: float = 0.0
    wait: float = 0.0
    collect: float = 0.0
    write: float = 0.0


@dataclass
class RankStats:
    """One rank in the report."""

    rank: int
    host: str
    device: str
    threads: int
    rows: int = 0
    chunks: int = 0
    startup_seconds: float = 0.0
    loop_seconds: float = 0.0
    peak_rss_bytes: int = 0
    seconds: Seconds = field(default_factory=Seconds)
