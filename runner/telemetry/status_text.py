"""Status of a running job in words: the lines in a log, and their parts, which a terminal shows, too."""

from runner.telemetry.status import RankStatus, Status

_MOST_NAMED = 4


def first_line(num_rows: int, resumed_rows: int, where: str) -> str:
    """Return the first line of a job.

    Args:
        num_rows: rows of the data set.
        resumed_rows: rows of these that are done by earlier jobs.
        where: the ranks that work on it, in words.
    """
    resumed = f" ({resumed_rows:,} of them done by an earlier job)" if resumed_rows else ""
    return f"runner: {num_rows:,} rows{resumed} on {where}"


def line(status: Status) -> str:
    """Return one line for a log."""
    return f"runner: {done(status)} ({status.share_done:.0%}), {', '.join(figures(status))}{_naming(status)}"


def done(status: Status) -> str:
    """Return how many rows are done, of how many."""
    return f"{status.done_rows:,} of {status.num_rows:,} rows"


def figures(status: Status) -> list[str]:
    """Return speed, time left and other counts."""
    said = [rate(status.rows_per_second)]
    if status.seconds_left:
        said.append(f"{duration(status.seconds_left)} left")
    if status.resumed_rows:
        said.append(f"{status.resumed_rows:,} resumed")
    if status.quarantined_rows:
        said.append(f"{status.quarantined_rows:,} in quarantine")
    if status.seconds_left is None and not status.ended and any(rank.rows for rank in status.ranks):
        quiet = min(rank.seconds_since_last for rank in status.ranks)
        said.append(f"no chunk for {duration(quiet)}")
    return said


def stragglers(status: Status) -> list[str]:
    """Return the ranks that the others wait for, with the reason; a few, then the number of the rest."""
    by_rank = {rank.rank: rank for rank in status.ranks}
    found = [by_rank[rank] for rank in status.stragglers if rank in by_rank]
    found.sort(key=lambda rank: rank.rows_per_second)
    said = [f"rank {rank.rank} ({why(rank, status)})" for rank in found[:_MOST_NAMED]]
    return [*said, f"{len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else said


def why(rank: RankStatus, status: Status) -> str:
    """Return the reason why a rank is a straggler."""
    median = status.median_rows_per_second
    if not rank.rows_per_second or rank.rows_per_second > median / 2:
        return f"silent for {duration(rank.seconds_since_last)}"
    return f"{rank.rows_per_second / median:.0%} of the median speed"


def rate(rows_per_second: float) -> str:
    """Return a speed in rows per second."""
    return f"{rows_per_second:,.0f} rows/s" if rows_per_second >= 10 else f"{rows_per_second:.2g} rows/s"


def duration(seconds: float) -> str:
    """Return a duration as people write it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def _naming(status: Status) -> str:
    named = stragglers(status)
    return f"; behind the others: {', '.join(named)}" if named else ""
