"""Progress metrics for Prometheus: served by HTTP from rank 0, or in a file for the textfile collector."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from runner.config.checks import metrics_port
from runner.core.errors import UsageError
from runner.core.imports import import_errors
from runner.telemetry.status import Status

_FILE_SECONDS = 10.0  # the collector looks about every 15 seconds
_POLL_SECONDS = 0.05  # a job ends at most this much later
_Values = dict[str, tuple[str, Callable[[Status], float | None]]]
_GAUGES: _Values = {
    "runner_rows": ("Rows of the whole job.", lambda status: status.num_rows),
    "runner_rows_resumed": ("Rows that earlier jobs have done.", lambda status: status.resumed_rows),
    "runner_rows_per_second": ("Speed of all ranks in the last minute.", lambda status: status.rows_per_second),
    "runner_seconds_left": ("Until all rows are done, at this speed.", lambda status: status.seconds_left),
    "runner_stragglers": ("Ranks that the others will wait for.", lambda status: len(status.stragglers)),
    "runner_start_time_seconds": ("When the job started, since 1970.", lambda status: status.started),
    "runner_ended": ("1 when the job has come to an end of its own.", lambda status: status.ended),
}
_COUNTERS: _Values = {
    "runner_rows_done": ("Rows that are done, by this job and earlier ones.", lambda status: status.done_rows),
    "runner_rows_quarantined": ("Rows that failed and were set aside.", lambda status: status.quarantined_rows),
}


class Metrics:
    """Prometheus metrics of one job.

    Args:
        target: value of --metrics: the port to serve on, at all addresses of this host, or the path of the file.
        labels: labels of the job, for `runner_job_info`.

    Raises:
        UsageError: a package is missing, the port is not available, or the file cannot be written.
    """

    def __init__(self, target: int | str, labels: Mapping[str, str]) -> None:
        with import_errors("--metrics", "metrics"):
            import prometheus_client
            from prometheus_client import metrics_core
        port = metrics_port(target)
        self._core: Any = metrics_core
        self._write_file = prometheus_client.write_to_textfile
        self._path = str(target) if port is None else None
        self._labels, self._last_written = dict(labels), -_FILE_SECONDS
        self._status: Callable[[], Status] | None = None
        # a separate registry: the default one would also report on this process, and on other jobs in it
        self._registry = prometheus_client.CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        if self._path is not None:
            _check_writable(self._path)
        self._server: Any = None
        if port is not None:
            try:
                app = prometheus_client.make_wsgi_app(self._registry)
                self._server = make_server("", port, app, _Server, _Quiet)
            except (OSError, OverflowError) as error:
                raise UsageError(
                    f"--metrics {port} cannot be served on this host: {getattr(error, 'strerror', '') or error}. "
                    "Another job may have it; give another port, from 1024 to 65535"
                ) from error
            serve = self._server.serve_forever
            self._thread = threading.Thread(target=serve, args=(_POLL_SECONDS,), name="metrics", daemon=True)
            self._thread.start()

    def begin(self, status: Callable[[], Status]) -> None:
        """Set the function that returns the status of the job; before, there is nothing to report."""
        self._status = status

    def collect(self) -> Iterator[Any]:
        """Yield the metrics; called by the registry at each request."""
        gauge, counter = self._core.GaugeMetricFamily, self._core.CounterMetricFamily
        if self._status is None:
            return
        status = self._status()
        labels = self._labels | {"launcher": status.launcher, "world_size": str(status.world_size)}
        info = gauge("runner_job_info", "The job that this is about.", labels=list(labels))
        info.add_metric(list(labels.values()), 1)
        yield info
        for family, values in ((gauge, _GAUGES), (counter, _COUNTERS)):
            for name, (what, value_of) in values.items():
                if (value := value_of(status)) is not None:
                    yield family(name, what, value=value)
        rows = counter("runner_rank_rows", "Rows that a rank has done in this job.", labels=["rank"])
        speed = gauge("runner_rank_rows_per_second", "Speed of a rank lately, while at work.", labels=["rank"])
        straggler = gauge("runner_rank_straggler", "1 for a rank that the others will wait for.", labels=["rank"])
        for rank in status.ranks:
            label = [str(rank.rank)]
            rows.add_metric(label, rank.rows)
            speed.add_metric(label, rank.rows_per_second)
            straggler.add_metric(label, rank.rank in status.stragglers)
        yield from (rows, speed, straggler)

    def write(self, status: Status) -> None:
        """Renew the file, if there is one and it is due."""
        if self._path is None or (time.monotonic() - self._last_written < _FILE_SECONDS and not status.ended):
            return
        self._last_written = time.monotonic()
        if status.ended:
            self._status = lambda: status
        with contextlib.suppress(OSError):  # disk full, or folder gone: the job goes on
            self._write_file(self._path, self._registry)

    def close(self) -> None:
        """Stop the server; the file stays, with the last figures."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None


class _Server(ThreadingMixIn, WSGIServer):
    """Server whose slow clients delay neither other clients nor the end of the job."""

    daemon_threads = True
    block_on_close = False


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Discard the message: requests are not logged."""


def _check_writable(path: str) -> None:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"--metrics {path}: there is no folder {folder}")
    if os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--metrics {path} cannot be written")
