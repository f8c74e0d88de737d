"""Options that say what of a job can be seen."""

from dataclasses import dataclass

from runner.config.option import NOTHING, option


@dataclass(frozen=True, kw_only=True)
class WatchingOptions:
    """Options that say what of a job can be seen."""

    baseline: bool = option(
        False,
        "work",
        "measure rank 0 alone on a few chunks first, for the efficiency in the report; takes 5 seconds",
        affects=NOTHING,
    )
    trace: bool = option(
        False,
        "work",
        "write PATH.run/trace.json, what every rank did and when, for Perfetto or chrome://tracing",
        affects=NOTHING,
    )
    metrics: int | str | None = option(
        None,
        "work",
        "serve the progress to Prometheus at this port of rank 0's host, or write it to a file for its textfile "
        "collector",
        metavar="PORT|PATH.prom",
        affects=NOTHING,
    )
    verbose: int = option(
        0, "work", "-v: what every rank does; -vv: every chunk, and what Horovod and MPI say", affects=NOTHING
    )
    stall_timeout: int = option(
        900,
        "work",
        "end the job when a batch or a read takes longer, or a rank is silent for as long",
        metavar="SECONDS",
        affects=NOTHING,
        minimum=1,
    )
