"""Options that say what of a job can be seen."""

from dataclasses import dataclass

from runner.config.option import NOTHING, option


@dataclass(frozen=True, kw_only=True)
class WatchingOptions:
    """Options that say what of a job can be seen."""

    baseline: bool = option(
        False,
        "work",
        "let rank 0 compute a few chunks alone first, for the efficiency in the report; takes 5 seconds",
        affects=NOTHING,
    )
    trace: bool = option(
        False,
        "work",
        "write PATH.run/trace.json, what every rank did and when, for Perfetto or chrome://tracing",
        affects=NOTHING,
    )
    metrics_port: int | None = option(
        None, "work", "serve the progress to Prometheus from rank 0", metavar="PORT", affects=NOTHING, minimum=1
    )
    metrics_file: str | None = option(
        None, "work", "write it for Prometheus' textfile collector", metavar="PATH.prom", affects=NOTHING
    )
    verbose: int = option(
        0, "work", "-v: what every rank does; -vv: every chunk, and what Horovod and MPI say", affects=NOTHING
    )
    stall_timeout: int = option(
        900,
        "work",
        "end the job when one thing (a batch, a read) takes a rank longer, or a rank is silent",
        metavar="SECONDS",
        affects=NOTHING,
        minimum=1,
    )
