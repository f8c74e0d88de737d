"""What rank 0 makes of the commits: speed, time left, stragglers; and how it is put on a screen and in a log."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import runner.telemetry.progress
import runner.telemetry.status_text
import runner.telemetry.tally
from runner.telemetry.display import Display
from runner.telemetry.status import parse_status
from runner.telemetry.tally import Start, Tally


class Clock(SimpleNamespace):
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(runner.telemetry.tally, "time", clock)
    monkeypatch.setattr(runner.telemetry.progress, "time", clock)
    return clock


def begun(num_rows: int, world_size: int, is_static: bool = True, resumed_rows: int = 0, bad_rows: int = 0) -> Tally:
    shares = [num_rows // world_size] * world_size if is_static else None
    start = Start(num_rows, resumed_rows, bad_rows, world_size, "mpirun", "some ranks", 1.0, shares)
    return Tally(start)


def work(clock: Clock, tally: Tally, seconds: int, paces: list[float], bad: int = 0) -> None:
    """Each rank hands over a chunk a second, of so many rows; none where it is 0."""
    for _ in range(seconds):
        clock.now += 1
        for rank, pace in enumerate(paces):
            if pace:
                tally.add(rank, int(pace), 1.0, bad)


def test_speed_and_time_left_are_of_the_last_minute(clock: Clock) -> None:
    tally = begun(10_000, 2, is_static=False, resumed_rows=1000, bad_rows=10)
    assert tally.status().seconds_left is None
    clock.now += 1000  # the first chunk takes its time, for whatever reason
    work(clock, tally, 100, [10, 10])
    work(clock, tally, 100, [20, 20], bad=1)
    status = tally.status()
    assert (status.done_rows, status.resumed_rows, status.quarantined_rows) == (7010, 1000, 210)
    assert status.rows_per_second == pytest.approx(40, rel=0.1)
    assert status.seconds_left == pytest.approx((10_000 - 7010) / 40, rel=0.1)
    assert [rank.rows for rank in status.ranks] == [3000, 3000]


def test_time_left_is_that_of_the_last_rank(clock: Clock) -> None:
    tally = begun(10_000, 2)
    work(clock, tally, 20, [100, 50])
    assert tally.status().seconds_left == pytest.approx((5000 - 1000) / 50)


def test_a_slow_rank_is_a_straggler_until_it_is_done(clock: Clock) -> None:
    tally = begun(8000, 4)
    work(clock, tally, 1, [100, 100, 40, 100])
    assert tally.status().stragglers == []  # it is too early to tell
    work(clock, tally, 4, [100, 100, 40, 100])
    status = tally.status()
    assert status.stragglers == [2]
    assert runner.telemetry.status_text.line(status).endswith("; behind the others: rank 2 (40% of the median speed)")
    work(clock, tally, 60, [0, 0, 100, 0])
    assert tally.status().stragglers == []


@pytest.mark.parametrize("is_static", [True, False])
def test_a_silent_rank_is_a_straggler(is_static: bool, clock: Clock) -> None:
    tally = begun(100_000, 4, is_static)
    work(clock, tally, 5, [100, 100, 100, 100])
    work(clock, tally, 4, [100, 100, 100, 0])
    assert tally.status().stragglers == []
    work(clock, tally, 5, [100, 100, 100, 0])
    assert tally.status().stragglers == [3]
    assert "rank 3 (silent for 9 s)" in runner.telemetry.status_text.line(tally.status())
    clock.now += 100  # nobody hands anything over: then it is not a matter of ranks
    assert tally.status().stragglers == ([] if is_static else [3])
    assert "no chunk for 100 s" in runner.telemetry.status_text.line(tally.status()).replace("2 min", "100 s")


def test_a_rank_that_found_nothing_more_to_take_is_no_straggler(clock: Clock) -> None:
    tally = begun(1000, 2, is_static=False)
    work(clock, tally, 9, [50, 50])
    clock.now += 60  # rank 1 has been at the last chunk for so long
    assert tally.status().stragglers == []
    tally.add(1, 100, 60.0, 0)
    assert (tally.status().stragglers, tally.status().seconds_left) == ([], 0.0)


def test_a_status_is_read_as_it_was_written(clock: Clock) -> None:
    tally = begun(1000, 3)
    work(clock, tally, 4, [10, 10, 1])
    status = tally.status()
    assert parse_status(status.to_json()) == status
    assert parse_status(json.dumps(json.loads(status.to_json()) | {"of_a_later_version": 1})) == status
    lacking = {name: value for name, value in json.loads(status.to_json()).items() if name != "num_rows"}
    for damaged in ("", "{", "[]", "null", '{"ranks": 3}', json.dumps(lacking), status.to_json()[:-9], "\0\0"):
        assert parse_status(damaged) is None


@pytest.mark.parametrize("num_ranks", [1, 2, 8, 16, 64, 512])
def test_a_display_fits_its_terminal(num_ranks: int, clock: Clock) -> None:
    tally = begun(num_ranks * 10_000, num_ranks, resumed_rows=123_456)
    work(clock, tally, 5, [100] * (num_ranks - 1) + [10])
    status, display = tally.status(), Display()
    for columns in (40, 80, 200):
        for lines in (6, 24, 60):
            shown = display.lines(status, columns, lines)
            assert all(width < columns for _, width in shown)
            assert len(shown) < lines or lines == 6
            bars = [re.sub(r"\x1b\[[\d;]*m", "", text) for text, _ in shown if "━" in text]
            room = min(16, lines - 7)
            assert len(bars) == 1 + (0 if num_ranks == 1 or room < 2 else num_ranks if num_ranks <= room else 3)
    text = "".join(text for text, _ in display.lines(status, 200, 60))
    assert ("rank" in text) == (num_ranks > 1)
    assert ("10% of the median speed" in text) == (num_ranks > 1)


def test_no_color(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    tally = begun(1000, 2)
    work(clock, tally, 4, [10, 1])
    monkeypatch.setenv("TERM", "xterm-256color")
    assert any(re.search(r"\x1b\[3\dm", text) for text, _ in Display().lines(tally.status(), 80, 24))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any(re.search(r"\x1b\[[39]\dm", text) for text, _ in Display().lines(tally.status(), 80, 24))


def test_lines_in_a_log_become_rarer(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    tally = begun(10_000_000, 2, resumed_rows=100)
    view, when = runner.telemetry.progress.LogView(sys.stderr), []
    for second in range(0, 6 * 3600, 2):
        clock.now = 1000 + second
        tally.add(second // 2 % 2, 10, 4.0, 0)
        view.show(tally.status())
        if said := capsys.readouterr().err:
            when.append(second)
            assert re.fullmatch(r"runner: [\d,]+ of 10,000,000 rows \(\d+%\), [^\x00-\x1f]* left, 100 resumed\n", said)
    assert when[:3] == [30, 60, 90]
    assert set(np.diff(when)) == {30, 60, 120, 300, 600}
