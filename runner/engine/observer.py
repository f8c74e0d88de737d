"""What follows a rank's loop from outside."""

from dataclasses import dataclass

from runner.comm.watchdog import Activity
from runner.host.stop import Stop
from runner.telemetry.timeline import Timeline


@dataclass(frozen=True)
class Observer:
    """The stop signal, the watchdog's view of the main thread, and the timeline of one rank.

    Attributes:
        stop: says when no other chunk may be started.
        activity: what the main thread is doing.
        timeline: where its time goes.
    """

    stop: Stop
    activity: Activity
    timeline: Timeline

    @classmethod
    def silent(cls) -> "Observer":
        """Make an observer that never stops the loop, and whose figures nobody sees."""
        return cls(Stop(None), Activity(), Timeline(0.0))
