"""Observers of one rank's loop."""

from dataclasses import dataclass

from runner.comm.watchdog import Activity
from runner.host.stop import Stop
from runner.telemetry.timeline import Timeline


@dataclass(frozen=True)
class Observer:
    """Stop request, activity as the watchdog sees it, and timeline of one rank.

    Attributes:
        stop: tells when no other chunk may be started.
        activity: the current activity of the main thread.
        timeline: the time of the main thread, by phase.
    """

    stop: Stop
    activity: Activity
    timeline: Timeline

    @classmethod
    def silent(cls) -> "Observer":
        """Make an observer that never stops the loop, and whose figures are discarded."""
        return cls(Stop(None), Activity(), Timeline(0.0))
