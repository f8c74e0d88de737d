"""What real jobs whose ranks hold the model together tell of their groups, and its page in a real browser."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, open_browser, shown, told
from launch import finish, mpirun, predict_command, start

from runner.reports.pages import compare, make_page
from runner.reports.pages.record import Record
from runner.reports.pages.summary import summary

NUM_ROWS, WIDTH, LAYERS, LAG = 400, 16, 4, 0.25
BATCHES = NUM_ROWS // 2 // 10  # of each group
MODEL = f"""
import os, time
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear({WIDTH}, {4 * WIDTH}), nn.Linear({4 * WIDTH}, {WIDTH})

    def forward(self, rows):
        return rows + self.down(torch.relu(self.up(rows)))

class Late(nn.Module):
    def __init__(self, late=-1):
        super().__init__()
        self.layers, self.late = nn.ModuleList(Block() for _ in range({LAYERS})), late

    def forward(self, rows):
        if os.environ["OMPI_COMM_WORLD_RANK"] == str(self.late):
            time.sleep({LAG})
        for layer in self.layers:
            rows = layer(rows)
        return rows

def plan(model):
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel
    return {{"layers.*.up": ColwiseParallel(), "layers.*.down": RowwiseParallel()}}
"""
GROUPS = ["--model-parallel", "2", "--parallel-plan", "late:plan", "--model-args", '{"late": 3}']
STAGES = ["--model-parallel", "2", "--pipeline-stages", "2"]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of two, where rank 3 is late at each batch, and a pipeline of two stages."""
    folder = tmp_path_factory.mktemp("groups")
    (folder / "late.py").write_text(MODEL)
    np.save(folder / "d.npy", np.ones((NUM_ROWS, WIDTH), np.float32))
    options = ["--model", "late:Late", "--data", "d.npy", "--batch-size", "10", "--chunk-size", "20"]
    for output, ranks, more in (("groups.npy", 4, GROUPS), ("stages.npy", 2, STAGES)):
        process = start(predict_command(*options, *more, "--output", output, launcher=mpirun(ranks)), folder)
        outcome = finish(process, 240)
        assert outcome.code == 0, outcome.output
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(autouse=True)
def here(jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(jobs)


def test_the_report_tells_what_each_rank_holds_and_waits_for() -> None:
    ranks = told("groups.npy")["ranks"]
    split, whole = 4 * WIDTH * (2 * WIDTH + 1), WIDTH  # parameters of a layer: over two ranks, on each
    assert [rank["part_bytes"] for rank in ranks] == [LAYERS * 4 * (split // 2 + whole)] * 4
    for rank in ranks:
        assert 0 < rank["group_seconds"] <= rank["seconds"]["forward"]
    assert ranks[3]["seconds"]["forward"] >= BATCHES * LAG
    # rank 2 waits for rank 3, which does not wait for itself: some batches are measured, on a machine that may be busy
    assert ranks[2]["group_seconds"] - ranks[3]["group_seconds"] > 0.2 * BATCHES * LAG

    stages = told("stages.npy")["ranks"]
    assert [rank["part_bytes"] for rank in stages] == [LAYERS // 2 * 4 * (split + whole)] * 2
    for rank in stages:
        assert 0 < rank["group_seconds"] <= rank["seconds"]["forward"]


def test_a_page_shows_the_groups(browser: Browser, tmp_path: Path) -> None:
    html, found = make_page("groups.npy"), told("groups.npy")
    page, ranks = shown(browser, html, tmp_path), found["ranks"]
    forward = [rank["seconds"]["forward"] for rank in ranks]
    exchange = [rank["group_seconds"] for rank in ranks]
    assert page.charts()["exchange"] == 2 * 4
    said = page.text("#groups")
    share = re.search(r"(\d+) % of the forward's time went into exchange and waiting in the groups", said)
    assert share
    assert abs(int(share[1]) - 100 * sum(exchange) / sum(forward)) <= 0.51
    assert (
        "The 2 ranks of each of 2 groups hold one replica of the model together; a rank holds 16.8 KiB of it." in said
    )
    assert re.search(r"In group 1, rank 3 on \S+ computed for longest", said)
    each = page.table("each rank of the groups")
    assert [cells[0] for _, cells in each] == [0, 0, 1, 1]
    assert [cells[1] for _, cells in each] == [rank["part_bytes"] for rank in ranks]
    assert [cells[2] for _, cells in each] == forward
    assert [cells[4] for _, cells in each] == exchange
    assert all(math.isclose(cells[3] + cells[4], cells[2]) for _, cells in each)
    groups = page.table("the groups; seconds are the mean of their ranks")
    assert [(name, cells[0], cells[3]) for name, cells in groups] == [("group 0", "0-1", 200), ("group 1", "2-3", 200)]
    assert [cells[2] for _, cells in groups] == [2 * ranks[0]["part_bytes"]] * 2
    assert math.isclose(groups[1][1][4], (forward[2] + forward[3]) / 2)
    assert math.isclose(groups[1][1][6], (exchange[2] + exchange[3]) / (forward[2] + forward[3]))

    # elsewhere groups are what ranks are in other jobs, and members are not taken for idle ranks
    load = page.table("rows of each group, and seconds of its first rank")
    assert [(name, cells[0]) for name, cells in load] == [("group 0 (ranks 0-1)", 200), ("group 1 (ranks 2-3)", 200)]
    assert "Each computed 200 rows." in page.text("#load")
    assert "2 groups of 2, under mpirun" in page.text("#summary .cards")
    others = page.table("a job like this one on other numbers of ranks, by a model")
    assert [cells[0] for _, cells in others] == [2, 4, 8, 16]
    assert "weights, sent to all ranks" not in [name for name, _ in page.table("what traveled, and how fast")]
    assert "on 4 ranks in 2 groups of 2, " in summary(Record("groups.npy"))
    assert "groups of 2 ranks in 2 stages" in compare(["groups.npy", "stages.npy"])[0]
    narrow = shown(browser, html, tmp_path, width=400)
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_page_shows_the_stages_of_a_pipeline(browser: Browser, tmp_path: Path) -> None:
    page = shown(browser, make_page("stages.npy"), tmp_path)
    said = page.text("#groups")
    assert "The 2 ranks hold one replica of the model together, as a pipeline of 2 stages; a rank holds" in said
    assert "With 8 micro-batches in a batch, a pipeline of 2 stages is idle for 11 % of its time at best" in said
    ((name, cells),) = page.table("the groups; seconds are the mean of their ranks")
    assert (name, *cells[:2]) == ("group 0", "0-1", "0: rank 0; 1: rank 1")
    assert [cells[1] for _, cells in page.table("each rank of the groups")] == [0, 1]


@pytest.mark.parametrize(("times", "bars"), [(8, 16), (64, 128)])
def test_many_groups(times: int, bars: int, browser: Browser, tmp_path: Path) -> None:
    """A real job's records, each rank so many times: of so many ranks each group has one bar."""
    folder = tmp_path / "many.npy.run"
    shutil.copytree("groups.npy.run", folder)
    found = told("groups.npy")
    ranks = [rank | {"rank": 4 * n + rank["rank"], "host": f"n{n}"} for n in range(times) for rank in found["ranks"]]
    (folder / "report.json").write_text(json.dumps(found | {"ranks": ranks, "world_size": 4 * times}))
    page = shown(browser, make_page(folder), tmp_path)
    assert page.charts()["exchange"] == 2 * bars
    assert len(page.table("the groups; seconds are the mean of their ranks")) == bars
    assert len(page.table("each rank of the groups")) == 4 * times
    assert f"of each of {bars} groups" in page.text("#groups")


def test_a_job_without_a_report_and_damaged_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("groups.npy.run", tmp_path / "groups.npy.run")
    monkeypatch.chdir(tmp_path)
    path = Path("groups.npy.run/report.json")
    whole, found = path.read_text(), told("groups.npy")
    path.unlink()
    Path("groups.npy.run/timeline.json").unlink()
    lost = make_page("groups.npy")
    assert "When each of 2 groups computed its chunks: " in lost
    assert "2 groups of 2, under mpirun" in lost

    path.write_text(json.dumps(found | {"ranks": [rank | {"group_seconds": 0.0} for rank in found["ranks"]]}))
    assert "exchange and waiting is not known: there were too few batches" in make_page("groups.npy")
    for old, new in (
        ('"group_seconds": ', '"group_seconds": "a'),
        ('"part_bytes": ', '"part_bytes": -'),
        ('"model-parallel": 2', '"model-parallel": [2]'),
        ('"model-parallel": 2', '"model-parallel": 3'),
        ('"model-parallel": 2', '"model-parallel": 1e300'),
        ('"pipeline-stages": 1', '"pipeline-stages": 7'),
        ('"pipeline-stages": 1', '"pipeline-stages": NaN'),
        ('"forward": ', '"forwards": '),
    ):
        damaged = re.sub(r'"a([-\d.e]+)', r'"\1"', whole.replace(old, new))
        assert damaged != whole, old
        path.write_text(damaged)
        page = make_page("groups.npy")
        assert '<h2 id="summary-title">' in page
        assert page.count("the records are damaged") == 0, (old, new)
