"""Every architecture of Transformers that can be made small, through the runner and through Transformers alone.

    python scripts/architectures.py --tasks causal classify --ranks 1 2 --table architectures.md

Each is saved as a folder with random weights and run over rows of unlike lengths. What is right is what Transformers
gives for each row alone: without a batch, and so without padding. The runner must give that at every number of ranks,
with the same bytes, or refuse the folder by name. Exits with 1 where a model gives something else.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import tiny_models
import torch
import transformers

import runner
from runner.core.errors import RunnerError
from runner.host.launch import detect_launch

NUM_ROWS, TOLERANCE = 24, 1e-4
EQUAL, REFUSED = "equal", "refused"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(tiny_models.TASKS), choices=list(tiny_models.TASKS))
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--only", nargs="+", help="names of classes")
    parser.add_argument("--most", type=int, help="the first so many of each task that can be made small")
    parser.add_argument("--options", type=json.loads, default={}, help='of the job, such as \'{"offload": "disk"}\'')
    parser.add_argument("--table", type=Path, help="where to write a Markdown table")
    parser.add_argument("--jobs", type=Path, help=argparse.SUPPRESS)  # what this program calls itself with, on ranks
    given = parser.parse_args()
    if given.jobs:
        run_jobs(given.jobs)
        return 0
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        return compare(given, Path(folder))


def compare(given: argparse.Namespace, folder: Path) -> int:
    """Make the models, run them, and say what came out."""
    tokens, images = write_rows(folder)
    cases, unmade = {}, []
    for task in given.tasks:
        made = 0
        for _, name in tiny_models.names_of(task):
            if (given.only and name not in given.only) or made == given.most:
                continue
            try:
                model = tiny_models.make(name, folder / name)
                expected = [right_answer(model, task, row) for row in (images if task == "image" else tokens)]
            except Exception as error:
                unmade.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
                continue
            cases[name] = task, expected
            made += 1
            print(f"{task} {name}", flush=True)
    verdicts = {name: [] for name in cases}
    for ranks in given.ranks:
        told = launch(folder, ranks, cases, given.options)
        for name, (task, expected) in cases.items():
            verdicts[name].append(judge(folder / f"{name}-{ranks}.jsonl", expected, task, told.get(name, "no answer")))
    for name in cases:
        outputs = {p.read_bytes() for r in given.ranks if (p := folder / f"{name}-{r}.jsonl").exists()}
        if len(outputs) > 1:
            verdicts[name].append("bytes differ by number of ranks")
    lines = [f"| {name} | {cases[name][0]} | {'; '.join(dict.fromkeys(said))} |" for name, said in verdicts.items()]
    bad = [line for line in lines if f"| {EQUAL} |" not in line and REFUSED not in line]
    table = "\n".join(["| class | task | at each number of ranks |", "| --- | --- | --- |", *lines])
    print(f"{table}\n\nnot made small, or not called with token lists alone: {len(unmade)}")
    print(*unmade, sep="\n")
    print(f"\n{len(cases)} models; {len(cases) - len(bad)} equal or refused by name, {len(bad)} not")
    if given.table:
        given.table.write_text(table + "\n")
    return bool(bad)


def write_rows(folder: Path) -> tuple[list[list[int]], np.ndarray]:
    """Write token lists and images; return both."""
    rng = np.random.default_rng(0)
    tokens = [rng.integers(5, 100, int(n)).tolist() for n in rng.integers(2, 20, NUM_ROWS)]
    pa.parquet.write_table(pa.table({"tokens": tokens}), folder / "rows.parquet")
    images = rng.standard_normal((NUM_ROWS, 3, 16, 16), dtype=np.float32)
    np.save(folder / "images.npy", images)
    return tokens, images


def right_answer(model: Any, task: str, row: Any) -> np.ndarray:
    """What Transformers gives for one row alone."""
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if task == "image":
            return model(pixel_values=torch.from_numpy(row[None])).logits[0].numpy()
        ids = torch.tensor([row])
        if task == "causal":
            options = {"max_new_tokens": tiny_models.NEW_TOKENS, "do_sample": False, "num_beams": 1}
            found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)[0, len(row) :]
            return found.numpy()
        outputs = model(input_ids=ids)
        if task == "base":
            return outputs.last_hidden_state.mean(dim=1)[0].numpy()
        return outputs.logits[0].numpy()


def launch(folder: Path, ranks: int, cases: dict[str, Any], options: dict[str, Any]) -> dict[str, str]:
    """Run all models on so many ranks, again from the next one where one of them ends the ranks; what each job said."""
    plan, said = folder / "jobs.json", folder / f"said-{ranks}.jsonl"
    names = list(cases)
    told: dict[str, str] = {}
    while names:
        jobs = [[name, job_of(folder, name, cases[name][0], ranks) | options] for name in names]
        plan.write_text(json.dumps([str(said), jobs]))
        command = [sys.executable, __file__, "--jobs", str(plan)]
        if ranks > 1:
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), *command]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
        new = dict(json.loads(line) for line in said.read_text().splitlines()) if said.exists() else {}
        told |= new
        if not done.returncode:
            break
        rest = [name for name in names if name not in told]
        if rest:
            lines = (done.stdout + done.stderr).strip().splitlines()
            why = [line for line in lines if line.startswith("runner: error")] or lines[-1:]
            told[rest[0]] = f"the ranks ended with {done.returncode}: {''.join(why[:1])}"
        names = rest[1:]
    return told


def job_of(folder: Path, name: str, task: str, ranks: int) -> dict[str, Any]:
    arguments = {"causal": {"max_new_tokens": tiny_models.NEW_TOKENS}, "base": {"pooling": "mean"}}.get(task, {})
    return {
        "model": f"{folder / name}/",
        "model_args": arguments,
        "data": str(folder / ("images.npy" if task == "image" else "rows.parquet")),
        "output": str(folder / f"{name}-{ranks}.jsonl"),
        "batch_size": 6,
        "chunk_size": 6,
        "threads": 1,
    }


def run_jobs(plan: Path) -> None:
    """On the ranks: one job after another."""
    path, jobs = json.loads(plan.read_text())
    for name, options in jobs:
        try:
            runner.predict(**options)
            said = ""
        except RunnerError as error:
            if not error.shared:
                raise
            said = f"{REFUSED}: {error}"
        if detect_launch().rank == 0:
            with open(path, "a") as file:
                file.write(json.dumps([name, said]) + "\n")


def judge(path: Path, expected: list[np.ndarray], task: str, said: str) -> str:
    """In words, how the predictions in a file compare with the right ones."""
    if said or not path.exists():
        return said or "no output"
    rows = [next(iter(json.loads(line).values())) for line in path.read_text().splitlines()]
    found = [np.array(row, dtype=right.dtype) for row, right in zip(rows, expected, strict=True)]
    if task == "causal":  # after its end a row is filled up
        found = [row[: len(right)] for row, right in zip(found, expected, strict=True)]
        return EQUAL if all(map(np.array_equal, found, expected)) else "other tokens"
    if any(row.shape != right.shape for row, right in zip(found, expected, strict=True)):
        return f"shape {found[0].shape} instead of {expected[0].shape}"
    off = max(
        float(np.abs(row - right).max() / np.abs(right).max()) for row, right in zip(found, expected, strict=True)
    )
    return EQUAL if off <= TOLERANCE else f"off by {off:.2g}"


if __name__ == "__main__":
    sys.exit(main())
