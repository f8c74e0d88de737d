"""Log of a rank while it works, with -v and -vv: Python's logging, under the name "runner".

A program that calls `runner.predict` may configure that logger as it likes; a handler is added only for -v and -vv.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runner.comm import Comm
from runner.comm.watchdog import Watchdog
from runner.core.printable import safe_message
from runner.core.text import byte_size, duration
from runner.host.launch import World
from runner.telemetry.timeline import Timeline

LOGGER = logging.getLogger("runner")


@contextmanager
def rank_logging(world: World, verbose: int) -> Iterator[None]:
    """Name this rank in log messages, and show them on stderr according to `verbose`, inside the `with` block.

    Args:
        world: this rank among the others.
        verbose: 0 for nothing, 1 for the stages, 2 for the chunks, too.
    """

    def name_rank(record: logging.LogRecord) -> bool:
        record.msg = f"{world.who}: {record.msg}"
        return True

    handler, former_level = logging.StreamHandler(sys.stderr), LOGGER.level
    handler.setFormatter(_Formatter("runner: %(message)s"))
    LOGGER.addFilter(name_rank)
    if verbose:
        if not LOGGER.isEnabledFor(level := _level(verbose)):
            LOGGER.setLevel(level)
        if not LOGGER.hasHandlers():  # a handler of the program would print it a second time
            LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(former_level)
        LOGGER.removeFilter(name_rank)


class _Formatter(logging.Formatter):
    """Format of a line; texts of others in it, such as names of columns, cannot act on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return safe_message(super().format(record))


class PhaseTracker:
    """Current phase of the main thread, reported to the watchdog, the timeline and the log.

    Args:
        world: this rank among the others.
        watch: watchdog of this rank.
        timeline: timeline of this rank.
    """

    def __init__(self, world: World, watch: Watchdog, timeline: Timeline) -> None:
        self._world = world
        self._watch = watch
        self._timeline = timeline
        self._began = time.perf_counter() - (timeline.now() - timeline.began)  # not of the timeline, which align shifts

    def begin(self, phase: str, what: str, root_alone: bool = False) -> None:
        """Begin the next phase.

        Args:
            phase: one of `runner.telemetry.timeline.MAIN_PHASES`.
            what: the activity in words, for the message about a job that hangs.
            root_alone: whether rank 0 does it while the others wait for it.
        """
        if root_alone and self._world.rank:
            self._watch.main.wait()
        else:
            self._watch.main.begin(what)
        self._timeline.turn(phase)
        self._began = time.perf_counter()

    def end(self, result: str) -> None:
        """Log the result of the phase, and how long it took."""
        LOGGER.info("%s, %s", result, duration(time.perf_counter() - self._began))


class LoggingTimeline(Timeline):
    """Timeline that logs the duration of each round that carried predictions."""

    def add(self, phase: str, began: float, ended: float) -> None:
        super().add(phase, began, ended)
        if phase == "collect":
            LOGGER.debug("a round of predictions, %s", duration(ended - began))


def make_timeline(age_seconds: float, keeps_spans: bool, verbose: int) -> Timeline:
    """Make the timeline of a rank; one that logs rounds if debug messages are shown."""
    logs_rounds = verbose > 1 or LOGGER.isEnabledFor(logging.DEBUG)
    return (LoggingTimeline if logs_rounds else Timeline)(age_seconds, keeps_spans)


def describe_broadcast(comm: Comm) -> str:
    """Return what was sent to broadcast the weights, and how fast; empty where they were not sent from rank to rank."""
    if not comm.broadcast_seconds or comm.world.world_size == 1:
        return ""
    sent, seconds = comm.broadcast_bytes, comm.broadcast_seconds
    return f": {byte_size(sent)} sent in {duration(seconds)}, {byte_size(sent / seconds)}/s"


def _level(verbose: int) -> int:
    return logging.DEBUG if verbose > 1 else logging.INFO
