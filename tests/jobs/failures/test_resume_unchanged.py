"""A run is resumed only by a job that computes the same: what decides the predictions may have changed meanwhile."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import LAUNCHERS, PROGRAMS, environment, predict_command, predict_here, python, run
from reference import random_rows

NUM_ROWS = 200
FILES = {
    "net.py": """
import json
import os
import pathlib

import torch
import zoo
from torch import nn

import helper
from package import inner

class Net(nn.Module):
    def __init__(self, scale=1, shift=0):
        super().__init__()
        self.linear, self.scale, self.shift = nn.Linear(8, 3), scale, shift

    def forward(self, rows):
        if len(rows) > 1 and (rows[:, 1] == 150).any() and os.path.exists("die"):
            zoo.await_commits(pathlib.Path("p.npy.run"), 3)
            os._exit(9)
        from lazy import add
        factor = float(os.environ.get("FACTOR", "1"))
        table = json.load(open("table.json")) if os.path.exists("table.json") else 0
        return add(self.linear(rows) * helper.SCALE * inner.SCALE * factor * self.scale + self.shift + table)
""",
    "helper.py": "SCALE = 2\n",
    "lazy.py": "def add(rows):\n    return rows + 1\n",
    "package/__init__.py": "",
    "package/inner.py": "from . import deep\nSCALE = deep.SCALE\n",
    "package/deep.py": "SCALE = 3\n",
    "unused.py": "SCALE = 5\n",
    "post.py": "def post(rows):\n    return rows * 2\n",
}
JOB = ["--model", "net:Net", "--weights", "w.pt", "--data", "d.npy", "--output", "p.npy", "--postprocess", "post:post"]
JOB += ["--model-args", '{"scale": 2, "shift": 1}', "--batch-size", "8", "--chunk-size", "16"]


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of which some rows are computed."""
    folder = tmp_path_factory.mktemp("half")
    (folder / "package").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    rows = random_rows(NUM_ROWS, 8)
    rows[:, 1] = np.arange(NUM_ROWS)
    np.save(folder / "d.npy", rows)
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 3)
    torch.save({f"linear.{name}": value for name, value in linear.state_dict().items()}, folder / "w.pt")
    (folder / "die").touch()
    outcome = run(predict_command(*JOB), folder)
    assert outcome.code == 9, outcome.output
    (folder / "die").unlink()
    return folder


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def touch(name: str) -> Callable[[Path], None]:
    return lambda folder: os.utime(folder / name, (time.time(), time.time()))


def other_weights(folder: Path) -> None:
    torch.save({name: value * 2 for name, value in torch.load(folder / "w.pt").items()}, folder / "w.pt")


def other_row(row: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        rows = np.load(folder / "d.npy")
        rows[row] += 1
        np.save(folder / "d.npy", rows)

    return change


def another_torch(folder: Path) -> None:
    path = folder / "p.npy.run/ledger.jsonl"
    path.write_text(path.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "2.0.1"'))


# what changes; options; variables of the environment; what is said, with the exit code
CHANGES: dict[str, tuple[Callable[[Path], None] | None, list[str], dict[str, str], str, int]] = {
    "nothing": (None, [], {}, "(", 0),
    "the model's file": (edit("net.py", "helper.SCALE *", "helper.SCALE +"), [], {}, "differs in the code of net.", 65),
    "an imported module": (edit("helper.py", "2", "4"), [], {}, "differs in the code of helper.", 65),
    "one in a package": (edit("package/deep.py", "3", "4"), [], {}, "differs in the code of package.deep.", 65),
    "one that is imported late": (edit("lazy.py", "1", "2"), [], {}, "differs in the code of lazy.", 65),
    "postprocessing": (edit("post.py", "2", "7"), [], {}, "differs in the code of post.", 65),
    "a module that is not used": (edit("unused.py", "5", "6"), [], {}, "(", 0),
    "a variable that the model reads": (None, [], {"FACTOR": "1.5"}, "row 0 is not answered as in the first job", 65),
    "a file that the model reads": (
        lambda folder: (folder / "table.json").write_text("7"),
        [],
        {},
        "row 0 is not answered as in the first job",
        65,
    ),
    "a variable that changes the last bits": (None, [], {"FACTOR": "1.000001"}, "warning: row 0 is answered as in", 0),
    "the weights": (other_weights, [], {}, "differs in weights", 65),
    "the weights' time": (touch("w.pt"), [], {}, "(", 0),
    "the data": (other_row(0), [], {}, "p.npy.run", 65),
    "the data's time": (touch("d.npy"), [], {}, "(", 0),
    "the order of the arguments": (None, ["--model-args", '{"shift": 1, "scale": 2}'], {}, "(", 0),
    "an argument": (None, ["--model-args", '{"scale": 3, "shift": 1}'], {}, "differs in model_args", 65),
    "the version of a library": (another_torch, [], {}, "warning: earlier rows were computed with torch 2.0.1", 0),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_has_changed_between_two_jobs(case: str, half_done: Path, tmp_path: Path) -> None:
    change, options, variables, message, code = CHANGES[case]
    folder = tmp_path / "job"
    shutil.copytree(half_done, folder)
    if change:
        change(folder)
    outcome = run(predict_command(*JOB, *options), folder, env=environment(**variables))
    assert outcome.code == code, outcome.output
    assert message in outcome.output
    assert ("warning" in message) == ("warning" in outcome.output), outcome.output
    if code:
        assert not (folder / "p.npy").exists()
    else:
        report = json.loads((folder / "p.npy.run/report.json").read_text())
        assert 0 < report["resumed_rows"] < NUM_ROWS
        assert [text for text in report["warnings"] if text not in outcome.output] == []
        assert bool(report["warnings"]) == ("warning" in message)


def test_functions_without_a_file(tmp_path: Path) -> None:
    """Functions, lambdas and classes as those of a notebook."""
    np.save(tmp_path / "d.npy", random_rows(NUM_ROWS, 8))
    (tmp_path / "die").touch()
    for expression, code in (("rows * 2", 9), ("rows * 3", 65), ("rows * 2", 0)):
        outcome = run([*python(), PROGRAMS / "functions_without_file.py", expression, "d.npy", "p.npy"], tmp_path)
        (tmp_path / "die").unlink(missing_ok=True)
        assert outcome.code == code, outcome.output
        assert ("differs in the code of __main__:" in outcome.output) == (code == 65), outcome.output
    assert "done by an earlier job" in outcome.output
    assert np.array_equal(np.load(tmp_path / "p.npy"), np.load(tmp_path / "d.npy") * 2)


UNTRAINED = """
import torch
from torch import nn

def fresh():
    return nn.Sequential(nn.Linear(8, 4))

def seeded():
    torch.manual_seed(0)
    return nn.Linear(8, 3)

def constant():
    return nn.Identity()

def plan(model):
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel
    return {"0": ColwiseParallel(output_layouts=Replicate())}
"""


@pytest.mark.parametrize(
    ("model", "options", "warns"),
    [
        ("fresh", [], True),
        ("fresh", ["--weights", "none"], False),
        ("fresh", ["--weights", "w.pt"], False),
        ("fresh", ["--model-parallel", "2", "--parallel-plan", "own:plan"], True),
        ("seeded", [], False),
        ("constant", [], False),
    ],
)
def test_random_initial_values_are_told(model: str, options: list[str], warns: bool, tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(20, 8))
    torch.save(torch.nn.Sequential(torch.nn.Linear(8, 4)).state_dict(), tmp_path / "w.pt")
    (tmp_path / "own.py").write_text(UNTRAINED)
    job = ["--model", f"own:{model}", "--data", "d.npy", "--output", "p.npy", *options]
    outcome = run(predict_command(*job, launcher=LAUNCHERS["mpirun-2"]), tmp_path)
    assert outcome.code == 0, outcome.output
    said = f"runner: warning: no --weights: the values of --model own:{model} are random numbers"
    assert outcome.output.count(said) == warns, outcome.output
    report, manifest = (
        json.loads((tmp_path / f"p.npy.run/{name}.json").read_text()) for name in ("report", "manifest")
    )
    assert ("no --weights" in (tmp_path / "p.npy.run/report.html").read_text()) == warns
    assert any("no --weights" in text for text in report["warnings"]) == warns
    assert manifest["run"]["weights"].endswith("; random initial values") == warns


def test_a_seeded_factory_is_the_same_in_every_job_of_a_process(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(20, 8))
    job = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--overwrite"]
    digests = set()
    for _ in range(2):
        outcome = predict_here(*job, folder=tmp_path)
        assert outcome.code == 0, outcome.output
        assert "no --weights" not in outcome.output
        digests.add(json.loads((tmp_path / "p.npy.run/manifest.json").read_text())["run"]["weights"])
    assert len(digests) == 1
