"""Models that compute gradients themselves: forces by autograd, whatever the way, equal to PyTorch's own."""

import json
from pathlib import Path
from typing import Any

import forces
import numpy as np
import pytest
import torch
from launch import LAUNCHERS, PROGRAMS, predict_command, python, run

import runner

NUM_ROWS, BATCH_SIZE = 61, 8
WAYS = ["plain", "frozen", "clones", "enables", "a graph of its own", "keeps a table", "torch.func"]


def make_rows() -> np.ndarray:
    return np.random.default_rng(0).random((NUM_ROWS, 8), dtype=np.float32)


def make_jobs(folder: Path) -> dict[str, dict[str, Any]]:
    np.save(folder / "rows.npy", make_rows())
    far = make_rows()
    far[[9, 40]] = 1000
    np.save(folder / "far.npy", far)
    rng = np.random.default_rng(1)
    graphs = [{"positions": rng.random((int(size), 3)).tolist()} for size in rng.integers(2, 9, NUM_ROWS)]
    (folder / "graphs.txt").write_text("".join(json.dumps(graph) + "\n" for graph in graphs))
    common = {"batch_size": BATCH_SIZE, "chunk_size": 16, "threads": 1, "data": str(folder / "rows.npy")}
    jobs: dict[str, dict[str, Any]] = {
        way: {**common, "model": "forces:Forces", "model_args": {"way": way}} for way in WAYS
    }
    jobs["postprocess"] = {**jobs["plain"], "postprocess": "forces:halved"}
    jobs["bad rows"] = {**jobs["plain"], "data": str(folder / "far.npy"), "on_error": "quarantine"}
    jobs["preprocess"] = {**common, "model": "forces:Backwards", "preprocess": "forces:to_need_gradients"}
    jobs["no gradients"] = {**common, "model": "forces:Scale"}
    graph = {"model": "forces:Springs", "data": str(folder / "graphs.txt"), "preprocess": "forces:to_graphs"}
    jobs["graphs"] = {**common, **graph}
    return jobs


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The rows that each job gives, the same bytes in this process and on three ranks."""
    folder = tmp_path_factory.mktemp("autograd")
    jobs = make_jobs(folder)
    suffix = {name: "parquet" if name == "graphs" else "npy" for name in jobs}
    for number, (name, options) in enumerate(jobs.items()):
        runner.predict(**options, output=str(folder / f"1-{number}.{suffix[name]}"))
    several = [
        {**options, "output": str(folder / f"3-{number}.{suffix[name]}")}
        for number, (name, options) in enumerate(jobs.items())
    ]
    (folder / "jobs.json").write_text(json.dumps(several))
    command = [*LAUNCHERS["mpirun-3"], *python(), PROGRAMS / "several.py", folder / "jobs.json"]
    outcome = run(command, folder)
    assert outcome.code == 0, outcome.output
    results = {}
    for number, name in enumerate(jobs):
        one, three = (folder / f"{ranks}-{number}.{suffix[name]}" for ranks in (1, 3))
        assert one.read_bytes() == three.read_bytes(), name
        results[name] = {"path": one, "folder": folder}
    return results


def by_hand(way: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    model = forces.Forces(way)
    batches = [torch.from_numpy(rows[start : start + BATCH_SIZE].copy()) for start in range(0, len(rows), BATCH_SIZE)]
    outputs = [{name: output.detach() for name, output in model(batch).items()} for batch in batches]
    return tuple(torch.cat([output[name] for output in outputs]).numpy() for name in ("energy", "forces"))


@pytest.mark.parametrize("way", WAYS)
def test_forces_are_those_of_pytorch(way: str, found: dict[str, dict[str, Any]]) -> None:
    rows = np.load(found[way]["path"])
    energy, expected = by_hand(way, make_rows())
    assert np.abs(expected).max() > 0.01
    assert rows["energy"].tobytes() == energy.tobytes()
    assert rows["forces"].tobytes() == expected.tobytes()


def test_what_comes_before_and_after(found: dict[str, dict[str, Any]]) -> None:
    _, expected = by_hand("plain", make_rows())
    assert np.array_equal(np.load(found["postprocess"]["path"])["forces"], expected * np.float32(0.5))
    assert np.array_equal(np.load(found["preprocess"]["path"]), make_rows() * 1.5 * 2)
    assert np.array_equal(np.load(found["no gradients"]["path"]), make_rows() * 3)


def test_bad_rows_are_set_aside(found: dict[str, dict[str, Any]]) -> None:
    path = found["bad rows"]["path"]
    lines = (path.parent / f"{path.name}.run/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [9, 40]
    assert "too far away" in lines[0]
    _, expected = by_hand("plain", make_rows())
    rows = np.load(path)["forces"]
    assert np.isnan(rows[[9, 40]]).all()
    good = np.setdiff1d(np.arange(NUM_ROWS), [9, 40])
    assert np.allclose(rows[good], expected[good], atol=1e-6)


def test_graphs_of_unlike_sizes(found: dict[str, dict[str, Any]]) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(found["graphs"]["path"]).to_pydict()
    lines = (found["graphs"]["folder"] / "graphs.txt").read_text().splitlines()
    model = forces.Springs()
    for row, line in enumerate(lines):
        alone = model(**forces.to_graphs([line]))
        assert np.allclose(table["energy"][row], alone["energy"].item(), rtol=1e-5)
        assert np.allclose(table["forces"][row], alone["forces"][0].detach().numpy(), atol=1e-5)


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "runner")
    runner.predict(model=forces.Forces, model_args={"way": "plain"}, data=make_rows(), batch_size=8)
    assert caplog.text.count("the model needs gradients") == 1
    caplog.clear()
    runner.predict(model=forces.Scale, data=make_rows(), batch_size=8)
    assert "canary" in caplog.text
    assert "gradients" not in caplog.text


def test_groups_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", make_rows())
    options = ["--model", "forces:Forces", "--model-args", '{"way": "plain"}', "--data", "rows.npy"]
    command = predict_command(
        *options, "--output", "p.npy", "--model-parallel", "2", "--pipeline-stages", "2", launcher=LAUNCHERS["mpirun-2"]
    )
    outcome = run(command, tmp_path)
    assert outcome.code == 65, outcome.output
    assert "the model needs gradients (autograd), which --model-parallel does not compute" in outcome.output
    assert outcome.output.count("runner: error") == 1


def test_the_table_is_worth_keeping() -> None:
    """Guards the case: made in inference mode, it could not be differentiated."""
    with torch.inference_mode():
        made = torch.linspace(1, 2, 8).exp()
    rows = torch.ones(1, 8, requires_grad=True)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        (rows * made).sum().backward()
