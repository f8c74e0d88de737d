"""The Trace Event Format of Chrome, which Horovod also writes.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: events with times in microseconds, in
numbered processes and threads. Viewers require that the spans of a thread are disjoint or nested.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

_NUMBERS_A_RANK = 100  # thread numbers must differ from those of all other threads, and 0 is taken by the kernel

# (name, begin, end), times in seconds
NamedSpan = tuple[str, float, float]


class TraceEvents:
    """A formatter of a trace's events, each as a line with a comma.

    Args:
        origin: the moment that is 0 in the trace, in seconds on the clock of all other times given here.
    """

    def __init__(self, origin: float) -> None:
        self._origin = origin

    def process(self, rank: int, name: str, threads: Sequence[str]) -> Iterator[str]:
        """Yield events that name a rank and its threads."""
        yield _metadata("process_name", rank, 0, {"name": name})
        yield _metadata("process_sort_index", rank, 0, {"sort_index": rank})
        for thread, thread_name in enumerate(threads):
            yield self.thread(rank, thread, thread_name)

    def thread(self, rank: int, thread: int, name: str) -> str:
        """Return events that name one more thread of a rank; threads are shown in the order of their numbers."""
        sort = _metadata("thread_sort_index", rank, thread, {"sort_index": thread})
        return f"{_metadata('thread_name', rank, thread, {'name': name})}\n{sort}"

    def span(
        self, rank: int, thread: int, name: str, began: float, ended: float, about: Mapping[str, Any] | None = None
    ) -> str:
        """Return the event of a span of a thread, with times in seconds."""
        first, last = self._nanoseconds(began), self._nanoseconds(ended)  # rounded first: neighbors must not overlap
        arguments = f', "args": {json.dumps(about)}' if about else ""
        return (
            f'{{"ph": "X", "pid": {_pid(rank)}, "tid": {_pid(rank) + thread}, "name": {json.dumps(name)}, '
            f'"ts": {first / 1000:.3f}, "dur": {(last - first) / 1000:.3f}{arguments}}},'
        )

    def counter(self, rank: int, name: str, when: float, value: int) -> str:
        """Return the event of a counter's value at a time, in seconds."""
        return (
            f'{{"ph": "C", "pid": {_pid(rank)}, "name": {json.dumps(name)}, '
            f'"ts": {self._nanoseconds(when) / 1000:.3f}, "args": {{"rows": {value}}}}},'
        )

    def last(self) -> str:
        """Return an event without effect, and without a comma, to end the list."""
        return _metadata("process_sort_index", 0, 0, {"sort_index": 0})[:-1]

    def _nanoseconds(self, when: float) -> int:
        return max(0, round((when - self._origin) * 1e9))


def _pid(rank: int) -> int:
    return _NUMBERS_A_RANK * (rank + 1)


def _metadata(name: str, rank: int, thread: int, arguments: dict[str, Any]) -> str:
    event = {"ph": "M", "pid": _pid(rank), "tid": _pid(rank) + thread, "name": name, "args": arguments}
    return f"{json.dumps(event)},"


def horovods_spans(file: IO[bytes]) -> tuple[float, dict[str, list[NamedSpan]]]:
    """Read the spans of Horovod's own timeline.

    Returns:
        (zero, tensors): the moment that is 0 there, in seconds since 1970, and the spans of each tensor. Empty where
        the file is not valid JSON: Horovod writes its numbers and names unquoted.
    """
    file.seek(0)
    try:
        events = json.loads(file.read())
    except ValueError:
        return 0.0, {}
    zero, names = 0.0, {}
    tensors: dict[str, list[NamedSpan]] = {}
    open_spans: dict[int, list[tuple[str, float]]] = {}
    for event in events:
        pid, arguments = event.get("pid"), event.get("args", {})
        if event["ph"] == "M":
            zero = arguments.get("start_time_since_epoch_in_micros", zero * 1e6) / 1e6
            if event["name"] == "process_name" and "name" in arguments:
                names[pid] = arguments["name"]
        elif event["ph"] == "B":
            open_spans.setdefault(pid, []).append((event["name"], event["ts"] / 1e6))
        elif event["ph"] == "E" and open_spans.get(pid):
            name, began = open_spans[pid].pop()
            tensors.setdefault(names[pid], []).append((name, began, event["ts"] / 1e6))
    return zero, tensors
