"""Status of a running job in words: the lines in a log, and their parts, which a terminal shows, too."""

from runner.core.text import plural, rate, rough_duration
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
    return f"runner: {plural(num_rows, 'row')}{resumed} on {where}"


def ranks_under(world_size: object, launcher: object) -> str:
    """Return the ranks of a job, of whose record nothing is certain, and their launcher: 2 ranks under mpirun."""
    if launcher == "none" and world_size == 1:
        return "one process"
    ranks = plural(world_size, "rank") if isinstance(world_size, int) else "? ranks"
    return f"{ranks} under {launcher or '?'}"


def line(status: Status) -> str:
    """Return one line for a log."""
    return f"runner: {done(status)} ({status.share_done:.0%}), {', '.join(figures(status))}{_naming(status)}"


def done(status: Status) -> str:
    """Return how many rows are done, of how many."""
    return f"{status.done_rows:,} of {plural(status.num_rows, 'row')}"


def figures(status: Status) -> list[str]:
    """Return speed, time left and other counts."""
    parts = [rate(status.rows_per_second)]
    if status.seconds_left:
        parts.append(f"{rough_duration(status.seconds_left)} left")
    if status.resumed_rows:
        parts.append(f"{status.resumed_rows:,} resumed")
    if status.quarantined_rows:
        parts.append(f"{status.quarantined_rows:,} in quarantine")
    if status.seconds_left is None and not status.ended and any(rank.rows for rank in status.ranks):
        quiet = min(rank.seconds_since_last for rank in status.ranks)
        parts.append(f"no chunk for {rough_duration(quiet)}")
    return parts


def stragglers(status: Status) -> list[str]:
    """Return the ranks that the others wait for, with the reason; a few, then the number of the rest."""
    by_rank = {rank.rank: rank for rank in status.ranks}
    ranks = [by_rank[rank] for rank in status.stragglers if rank in by_rank]
    ranks.sort(key=lambda rank: rank.rows_per_second)
    names = [f"rank {rank.rank} ({why(rank, status)})" for rank in ranks[:_MOST_NAMED]]
    return [*names, f"{len(ranks) - _MOST_NAMED} more"] if len(ranks) > _MOST_NAMED else names


def why(rank: RankStatus, status: Status) -> str:
    """Return the reason why a rank is a straggler."""
    median = status.median_rows_per_second
    if not rank.rows_per_second or rank.rows_per_second > median / 2:
        return f"silent for {rough_duration(rank.seconds_since_last)}"
    return f"{rank.rows_per_second / median:.0%} of the median speed"


def _naming(status: Status) -> str:
    named = stragglers(status)
    return f"; behind the others: {', '.join(named)}" if named else ""
