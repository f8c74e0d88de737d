"""The pages of real jobs, opened in a real browser without a network, and of run folders that are damaged."""

import json
import math
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, open_browser, shown, told
from some_jobs import NUM_ROWS, make_jobs

from runner.core.errors import InputError, OutputError
from runner.reports.pages import compare, make_page, report, write_page
from runner.reports.pages.page import Section, draw_page


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    make_jobs(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(autouse=True)
def here(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(jobs)


@pytest.mark.parametrize("name", ["one.npy", "two.npy", "eight.npy"])
def test_a_page_shows_what_the_report_tells(name: str, browser: Browser, tmp_path: Path) -> None:
    page, found = shown(browser, make_page(name), tmp_path), told(name)
    assert page.text(".status") == "✓ complete"
    assert set(page.charts()) == {"losses", "ranks", "speed", "latencies", "balance", "memory"}
    assert all(count > 0 for count in page.charts().values()), page.charts()

    # the tables are the figures of the report, to the last bit
    parts = dict(page.table("what the wall time is made of"))
    efficiency = found["efficiency"]
    assert parts["ideal"][0] == efficiency["ideal_seconds"]
    assert {part: parts[part][0] for part in efficiency["losses"] if part in parts} == {
        part: lost for part, lost in efficiency["losses"].items() if lost
    }
    assert parts["wall time"][0] == found["wall_seconds"]
    losses = sum(cells[0] for part, cells in parts.items() if part != "wall time")
    assert math.isclose(losses, found["wall_seconds"], rel_tol=0.1)
    ranks = page.table("rows and seconds of each rank")
    assert [cells[0] for _, cells in ranks] == [rank["rows"] for rank in found["ranks"]]
    assert sum(cells[0] for _, cells in ranks) == NUM_ROWS
    header = page.header("rows and seconds of each rank")
    forward = header.index("forward") - 1
    assert [cells[forward] for _, cells in ranks] == [rank["seconds"]["forward"] for rank in found["ranks"]]
    memory = page.table("most memory of each rank")
    assert [cells[0] for _, cells in memory] == found["peak_rss_bytes"]
    batches = page.table("batches by how long they took")
    assert sum(cells[0] for _, cells in batches) == sum(rank["batches"] for rank in found["ranks"])
    marks = page.evaluate("document.querySelector('#latencies').layout.shapes.map((mark) => mark.x0)")
    assert marks == sorted({*marks})
    assert marks[-1] == max(rank["slowest_batch_seconds"] for rank in found["ranks"])
    others = page.table("a job like this one on other numbers of ranks, by a model")
    assert [cells[1] for _, cells in others] == [item["wall_seconds"] for item in efficiency["predicted"]]
    assert page.text("#command") == (found["launcher_command"] or found["command"])


@pytest.mark.parametrize("times", [8, 64])
def test_many_ranks(times: int, browser: Browser, tmp_path: Path) -> None:
    """A real job's records, each rank so many times: 64 ranks, and 512, of which a row of the map has four."""
    folder = tmp_path / "many.npy.run"
    shutil.copytree("eight.npy.run", folder)
    found, timeline = told("eight.npy"), json.loads((folder / "timeline.json").read_text())
    ranks = [rank | {"rank": 8 * n + rank["rank"], "host": f"n{n}"} for n in range(times) for rank in found["ranks"]]
    timeline["phases"] = {phase: of_ranks * times for phase, of_ranks in timeline["phases"].items()}
    (folder / "report.json").write_text(json.dumps(found | {"ranks": ranks, "world_size": 8 * times}))
    (folder / "timeline.json").write_text(json.dumps(timeline))
    began = time.perf_counter()
    html = make_page(folder)
    assert time.perf_counter() - began < 5
    page = shown(browser, html, tmp_path)
    assert page.charts().keys() >= {"ranks", "balance", "memory"}
    assert page.evaluate("document.querySelectorAll('#ranks .hm image').length") > 3
    assert page.evaluate("document.querySelector('#ranks').data.at(-1).z.length") == min(8 * times, 128)
    rows = page.table("rows and seconds of each rank")
    assert rows[-1][0] == f"rank {8 * times - 1} on n{times - 1}"
    assert [name for name, _ in page.table("hosts and their ranks")][-1] == f"n{times - 1}"


def test_intervals_of_rows_per_second_are_as_long_as_a_batch(tmp_path: Path) -> None:
    """A real job's records, its batches made as long as two bins of its timeline."""
    folder = tmp_path / "two.npy.run"
    shutil.copytree("two.npy.run", folder)
    found, timeline = told("two.npy"), json.loads((folder / "timeline.json").read_text())
    bins = len(timeline["rows"])
    batch = 2 * (timeline["ended"] - timeline["began"]) / bins
    ranks = [rank | {"batch_seconds": 0.99 * batch} for rank in found["ranks"]]
    (folder / "report.json").write_text(json.dumps(found | {"ranks": ranks}))
    (folder / "timeline.json").write_text(json.dumps(timeline | {"rows": [0, 10] * (bins // 2)}))
    (figure,) = re.findall(r'id="speed-figure">(.*?)</script>', make_page(folder))
    assert json.loads(figure)["data"][0]["y"] == pytest.approx([10 / batch] * (bins // 2 + 1))


def test_records_of_an_earlier_version(tmp_path: Path) -> None:
    """Whose phases have other names."""
    names = {"data_wait": "wait_rows", "backpressure": "wait_room", "sync_wait": "wait_ranks"}
    folder = tmp_path / "two.npy.run"
    shutil.copytree("two.npy.run", folder)
    now = make_page(folder)
    for file in ("report.json", "timeline.json"):
        text = (folder / file).read_text()
        assert all(f'"{name}"' in text for name in names if file == "report.json" or name == "data_wait")
        for name, earlier in names.items():
            text = text.replace(f'"{name}"', f'"{earlier}"')
        (folder / file).write_text(text)
    assert made_at_once(make_page(folder)) == made_at_once(now)


def made_at_once(html: str) -> str:
    """A page without the time at which it was made."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "", html)


def test_a_page_is_for_everybody(browser: Browser, tmp_path: Path) -> None:
    html = make_page("two.npy")
    page = shown(browser, html, tmp_path)
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((heading) => +heading.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("document.title") == "two.npy"
    names = page.evaluate("[...document.querySelectorAll('.chart')].map((chart) => chart.ariaLabel)")
    assert names
    buttons = page.evaluate("[...document.querySelectorAll('.chart button')].map((button) => button.ariaLabel)")
    assert "Zoom" in buttons
    assert not [button for button in buttons if "Share" in button or "cloud" in button.lower()]
    # what is read as one picture, or not at all, has nothing in it that the Tab key would come to
    for role in ("[role=img]", "[aria-hidden=true]"):
        inside = ", ".join(f"{role} {what}" for what in ("a[href]", "button", "input", "[tabindex]"))
        assert page.evaluate(f"document.querySelectorAll('{inside}').length") == 0
    assert page.evaluate("document.querySelectorAll('.main-svg:not([aria-hidden])').length") == 0
    assert all(name and name.endswith(".") for name in names), names

    reached = page.tab_through(80)
    assert reached[0] == "a Skip to the content"
    for what in ("summary Table: rows and seconds of each rank", "a Time", "button Copy"):
        assert what in reached, reached
    page.press_on("summary", "Table: rows and seconds of each rank", "Enter")
    assert page.evaluate("document.querySelectorAll('details[open] table').length") == 1

    narrow = shown(browser, html, tmp_path, width=400)
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_page_is_as_dark_as_the_system(browser: Browser, tmp_path: Path) -> None:
    page = shown(browser, make_page("two.npy"), tmp_path, color_scheme="dark")
    dark = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, document.querySelector('.xtick text').style.fill]"
    )
    page.set_scheme("light")
    light = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, document.querySelector('.xtick text').style.fill]"
    )
    assert [sum(map(int, re.findall(r"\d+", color)[:3])) > 380 for color in (*dark, *light)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_page_of_a_running_job(browser: Browser) -> None:
    page = browser.open(Path("running.html").resolve())
    assert page.text(".status") == "▶ running"
    assert "is being written by another job: process " in page.text("#wrong")
    assert page.charts()["chunks"] > 0
    assert re.search(r"[\d,]+ of 1,200 rows \(\d+ %\) are recorded\.", page.text("#summary"))


def test_a_resumed_output_has_a_history(browser: Browser, tmp_path: Path) -> None:
    page, found = shown(browser, make_page("resumed.npy"), tmp_path), told("resumed.npy")
    assert page.charts()["history"] > 0
    (_, first), (_, second) = page.table("the jobs of this output")
    assert first[-1] == "killed"
    assert second[-1] == "complete"
    assert first[3] == found["resumed_rows"]
    assert second[3] == found["computed_rows"]
    assert "It took 2 jobs." in page.text("#summary")


def test_a_failure_comes_first(browser: Browser, tmp_path: Path) -> None:
    page = shown(browser, make_page("failed.npy"), tmp_path)
    assert page.text(".status") == "✕ failed"
    assert page.evaluate("document.querySelectorAll('main section')[1].id") == "wrong"
    said = page.text("#wrong")
    assert "rank 1 of 2 on" in said
    assert "</script><script>throw 1</script>" in said
    assert "hvd-runner predict --config failed.npy.run/config.toml" in said
    assert page.charts()["chunks"] > 0
    assert "failed after" in page.text("#chunks")
    chunks = page.table("chunks of each rank")
    ledger = Path("failed.npy.run/ledger.jsonl")
    lines = ledger.read_text().splitlines()
    assert sum(cells[0] for _, cells in chunks) == sum('"chunk":' in line for line in lines)
    # The other rank may have gone on for a chunk. A process' start is known to a tick of the clock.
    written_after = ledger.stat().st_mtime - json.loads(lines[1])["job"]["epoch"]
    assert max(cells[3] for _, cells in chunks) < written_after + 0.1
    assert page.text("#command").endswith("--output failed.npy")
    assert page.table("hosts and how many ranks each had") == [(socket.gethostname(), [2])]
    assert dict(page.table("versions, MPI, scheduler"))["torch"] == [told("two.npy")["environment"]["torch"]]


def test_rows_that_were_set_aside_are_listed(browser: Browser, tmp_path: Path) -> None:
    page = shown(browser, make_page("bad.npy"), tmp_path)
    assert page.text(".status") == "! complete, 1 row set aside"
    ((row, (error,)),) = page.table("rows that were set aside")
    assert row == "999"
    assert error == json.loads(Path("bad.npy.run/quarantine.jsonl").read_text())["error"]
    assert "throw 1" in error
    assert "All of them, with tracebacks, are in bad.npy.run/quarantine.jsonl." in page.text("#bad")

    # of many the first, and of a job without a report those of the ledger
    folder = tmp_path / "many.npy.run"
    shutil.copytree("bad.npy.run", folder)
    found = told("bad.npy")
    (folder / "report.json").write_text(json.dumps(found | {"quarantined_rows": 100}))
    (folder / "quarantine.jsonl").write_text("".join(json.dumps({"row": n, "error": "e"}) + "\n" for n in range(100)))
    many = make_page(folder)
    assert "100 rows were set aside, with fill values in the output. These are the first 40. All of them" in many
    (folder / "report.json").unlink()
    (folder / "quarantine.jsonl").unlink()
    killed = make_page(folder)
    assert "1 row was set aside" in killed
    assert "many.npy.run/ledger.jsonl." in killed


def test_a_job_that_was_stopped_has_the_rows_that_are_done(tmp_path: Path) -> None:
    folder = tmp_path / "two.npy.run"
    shutil.copytree("two.npy.run", folder)
    found = told("two.npy") | {"status": "stopped", "remaining_rows": 240, "computed_rows": 960}
    (folder / "report.json").write_text(json.dumps(found))
    assert '<dt>rows done</dt><dd>960</dd><dd class="more">of 1,200; 960 by this job</dd>' in make_page(folder)


def test_several_runs_are_compared(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = tmp_path / "later.json"
    found = told("two.npy")
    slow = {"rows_per_second": found["rows_per_second"] / 1.2, "epoch": found["epoch"] + 1}
    later.write_text(json.dumps(found | slow))
    paths = ["two.npy", "eight.npy.run", str(later), "one.npy.run/report.json", "resumed.npy", "failed.npy"]
    text, html = compare(paths)
    page = shown(browser, html, tmp_path)
    assert page.charts().keys() == {"speeds", "walls", "scaling", "efficiencies"}
    assert page.charts()["speeds"] == 5  # bars: the failed run has none
    assert page.charts()["walls"] == 3 * 5
    rows = dict(page.table("one line a run"))
    assert [cells[0] for cells in rows.values()][:4] == [1, 2, 2, 8]
    one, two, eight = (told(f"{name}.npy") for name in ("one", "two", "eight"))
    assert math.isclose(rows["two.npy"][3], two["rows_per_second"] / one["rows_per_second"])
    assert math.isclose(rows["eight.npy"][4], eight["rows_per_second"] / one["rows_per_second"] / 8)
    assert rows[str(later)][-1] == "SLOWER: 17 % fewer rows/s than two.npy"
    assert rows["resumed.npy"][-2:] == ["B", "went on with an earlier job's rows"]
    assert rows["failed.npy"][-1] == "no report: it has not come to its end"
    assert rows["resumed.npy"][3:5] == ["-", "-"]  # its configuration ran on one number of ranks
    differing = page.table("options that differ, and their values in each run")
    assert [name for name, _ in differing] == ["--model", "--model-args"]
    assert page.header("options that differ, and their values in each run")[1:] == [
        f"{name} ({letter})" for name, letter in zip(rows, "AAAABC", strict=True)
    ]
    assert [json.loads(value)["seconds"] for value in differing[1][1][:5]] == [0.01] * 4 + [0.1]
    assert (
        "The runs differ in their options, so speed-up is computed per configuration: A (--model zoo:DiesOnce" in text
    )
    assert "Speed-up is rows per second against the run with the fewest ranks: one.npy.run/report.json (1)." in text
    alike, unlike = compare(["two.npy", str(later)])[0], compare(["two.npy", "resumed.npy"])[0]
    assert "differ in their options" not in alike
    assert "The runs differ in their options: A (--model-args {" in unlike
    assert "speed-up" not in alike + unlike
    assert re.search(rf"^two\.npy +2 +{NUM_ROWS:,} ", text, re.MULTILINE)

    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"nothing\.npy does not exist, nor do its records"):
        report([str(later), "nothing.npy"])
    later.write_text("[]")
    with pytest.raises(InputError, match=r"later\.json is not the report\.json of a run"):
        report([str(later), str(later)])


def test_where_a_page_goes(tmp_path: Path, read_only: Path) -> None:
    said = report(["two.npy"])
    assert said.endswith(f"\nPage: {Path('two.npy.run/report.html').resolve()}")
    assert re.match(r"two\.npy: complete\. 1,200 of 1,200 rows by this job, [\d,.]+ rows/s on 2 ranks, ", said)
    assert "Largest loss: start-up, " in said
    assert report(["failed.npy"], str(tmp_path / "f.html")).startswith("The last job (started ")
    assert (tmp_path / "f.html").is_file()
    with pytest.raises(OutputError, match=r"read-only/x\.html cannot be written: .*--html PATH puts it elsewhere"):
        report(["two.npy"], str(read_only / "x.html"))
    with pytest.raises(InputError, match=r"d2\.npy does not exist, nor do its records"):
        report(["d2.npy"])

    Path("two.npy.run/report.html").unlink()
    write_page(Path("two.npy.run"))
    assert 100_000 < Path("two.npy.run/report.html").stat().st_size < 1_000_000


RECORDS = ("report.json", "timeline.json", "ledger.jsonl", "failure.json", "status.json", "config.toml", "lock")


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("output", ["two.npy", "failed.npy", "resumed.npy"])
def test_damaged_records(output: str, record: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(f"{output}.run", tmp_path / f"{output}.run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runner.records.lock._WATCH_SECONDS", 0.1)  # a torn lock is watched for that long
    path = Path(f"{output}.run", record)
    whole = path.read_bytes() if path.exists() else b'{"job": {}}\n'
    worse = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\0\xff",
        whole[: len(whole) // 2],
        b'{"ranks": 3, "phases": [], "job": 1}\n' * 3,
    ]
    spoiled = (
        re.sub(rb'": (-?[\d.]+)', b'": "\\1"', whole),
        re.sub(rb": [\d.]+", b": NaN", whole),
        whole.replace(b"[", b"[["),
    )
    for content in (*worse, *spoiled):
        path.write_bytes(content)
        page = make_page(output)
        assert "Traceback" not in re.sub("<pre.*?</pre>", "", page, flags=re.DOTALL)
        assert '<h2 id="summary-title">' in page
        for figure in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page):
            json.loads(figure, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        if content in worse[:5] and record not in ("ledger.jsonl", "lock"):
            assert f"{record} is there, but cannot be read" in page or record == "config.toml"
    path.unlink()
    assert '<h2 id="summary-title">' in make_page(f"{output}.run")


def with_evil(value: Any) -> Any:
    """Put markup into all texts of a record, but for those that say how the job has ended; and into all names."""
    evil = "</script></pre><b>--bold &amp;"
    if isinstance(value, dict):
        kept = {name: value[name] for name in ("status", "how") if name in value}
        return {name: with_evil(item) for name, item in value.items()} | {evil: evil} | kept
    return value + evil if isinstance(value, str) else [*map(with_evil, value)] if isinstance(value, list) else value


@pytest.mark.parametrize("output", ["two.npy", "failed.npy", "resumed.npy"])
def test_no_text_is_taken_for_markup(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(f"{output}.run", tmp_path / f"{output}.run")
    monkeypatch.chdir(tmp_path)
    for path in Path(f"{output}.run").glob("*.json"):
        if path.name != "timeline.json":
            path.write_text(json.dumps(with_evil(json.loads(path.read_text()))))
    ledger = Path(f"{output}.run/ledger.jsonl")
    first, *lines = map(json.loads, ledger.read_text().splitlines())
    jobs = [with_evil(line) if "job" in line else line for line in lines]
    ledger.write_text("".join(f"{json.dumps(line)}\n" for line in [first, *jobs]))
    html = re.sub("<script>.*?</script>", "", make_page(output), flags=re.DOTALL)
    assert "records are damaged" not in html
    assert html.count("&lt;b&gt;") > 3
    assert "<b>" not in html
    assert html.count("</pre>") == html.count("<pre")


def test_what_spoils_a_section_spoils_no_other() -> None:
    sections = [Section("about", "", "a title", lambda: {"command": 1 / 0}), Section("rates", "", "empty", lambda: {})]
    html = draw_page("a page", "", sections)
    assert "the records are damaged (ZeroDivisionError)" in html
    assert '<h2 id="about-title">a title</h2>' in html
    assert "rates-title" not in html


def test_templates_are_loaded_by_those_who_draw_a_page() -> None:
    code = "import sys, runner.reports.pages; sys.exit('jinja2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_folder_without_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.npy.run").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "no record of a job" in make_page("p.npy")
    with pytest.raises(InputError, match=r"q\.npy does not exist, nor do its records"):
        make_page("q.npy")
