"""What it costs and saves to hold a model on several ranks: a transformer whole, split inside of layers, in stages.

    python scripts/bench/parallel.py [--layers L] [--width W] [--repeats N]

All ways compute the same rows with the same number of CPU threads in all, in turn. Prints a table: rows/s in the loop
and its ratio to one rank, MiB of weights that the ranks hold, peak memory (of rank 0 with the file that it maps), the
share of the forward in exchange and waiting, and how far the answers are from those of one rank (norm of the difference
by the norm).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

VOCABULARY, LENGTH, BATCH_SIZE = 16_000, 128, 16
MIB = 1 << 20


class Block(nn.Module):
    """Attention and two linear layers, each beside the way around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head_size = 64
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        rows, length, _ = hidden.shape
        normed = self.norm_1(hidden)
        q, k, v = (
            layer(normed).view(rows, length, -1, self.head_size).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        hidden = hidden + self.o(attended.transpose(1, 2).reshape(rows, length, -1))
        return hidden + self.down(nn.functional.gelu(self.up(self.norm_2(hidden))))


class Transformer(nn.Module):
    """From tokens `(batch, length)` to what might follow: `(batch, VOCABULARY)`."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, width)
        self.layers = nn.ModuleList(Block(width) for _ in range(layers))
        self.head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden[:, -1])


def plan(model: nn.Module) -> dict[str, Any]:
    """How its layers are split."""
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

    columns = {f"layers.*.{name}": ColwiseParallel() for name in ("q", "k", "v", "up")}
    rows = {f"layers.*.{name}": RowwiseParallel() for name in ("o", "down")}
    ends = {
        "embed": RowwiseParallel(input_layouts=Replicate()),
        "head": ColwiseParallel(output_layouts=Replicate()),
    }
    return columns | rows | ends


# ranks, and their options
_SPLIT, _STAGES = ["--parallel-plan", "parallel:plan"], "--pipeline-stages"
WAYS: dict[str, tuple[int, list[str]]] = {
    "one rank": (1, []),
    "two ranks, each a whole model": (2, []),
    "M = 2, inside of layers": (2, ["--model-parallel", "2", *_SPLIT]),
    "M = 2, two stages": (2, ["--model-parallel", "2", _STAGES, "2"]),
    "M = 4, inside of layers": (4, ["--model-parallel", "4", *_SPLIT]),
    "M = 4, four stages": (4, ["--model-parallel", "4", _STAGES, "4"]),
    "M = 4, two stages of two": (4, ["--model-parallel", "4", _STAGES, "2", *_SPLIT]),
    "one rank, --offload disk": (1, ["--offload", "disk"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=29)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of all ranks together")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_bytes = prepare(arguments.layers, arguments.width, arguments.rows, folder)
        print(f"weights of {num_bytes / MIB:,.0f} MiB, {arguments.rows} rows of {LENGTH} tokens", flush=True)
        compare(arguments, folder)


def prepare(layers: int, width: int, num_rows: int, folder: Path) -> int:
    """Write weights and data; returns the bytes of the weights."""
    from safetensors.torch import save_model

    model = Transformer(layers, width)
    save_model(model, folder / "w.safetensors")
    np.save(folder / "d.npy", np.random.default_rng(0).integers(0, VOCABULARY, (num_rows, LENGTH)))
    return sum(parameter.nbytes for parameter in model.parameters())


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """Run all ways in turn, and print."""
    reports: dict[str, list[dict[str, Any]]] = {way: [] for way in arguments.ways}
    found = {}
    for _ in range(arguments.repeats):
        for way in arguments.ways:
            reports[way].append(run(way, arguments, folder))
            found[way] = np.load(folder / "p.npy").astype(np.float64)
    first = arguments.ways[0]
    alone = speed(reports[first])
    print("| ranks | rows/s | ratio | weights a rank, MiB | peak, MiB | exchange | difference |\n" + "| --- " * 7 + "|")
    for way, runs in reports.items():
        ranks = runs[-1]["ranks"]
        forward = sum(rank["seconds"]["forward"] for rank in ranks)
        waits = sum(rank["group_seconds"] for rank in ranks) / forward
        difference = np.linalg.norm(found[way] - found[first]) / np.linalg.norm(found[first])
        print(
            f"| {way} | {speed(runs):.2f} | {speed(runs) / alone:.2f} | {span(rank['part_bytes'] for rank in ranks)} | "
            f"{span(runs[-1]['peak_rss_bytes'])} | {waits:.0%} | {difference:.0e} |",
            flush=True,
        )


def run(way: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The report of one job."""
    for old in folder.glob("p.npy*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    ranks, options = WAYS[way]
    launcher = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)] if ranks > 1 else []
    shape = json.dumps({"layers": arguments.layers, "width": arguments.width})
    command = [*launcher, sys.executable, "-m", "runner", "predict", "--model", "parallel:Transformer"]
    command += ["--model-args", shape, "--weights", "w.safetensors", "--data", "d.npy", "--output", "p.npy"]
    command += ["--batch-size", str(BATCH_SIZE), "--chunk-size", str(BATCH_SIZE)]
    command += ["--threads", str(max(1, arguments.threads // ranks)), *options]
    as_root = {f"{p}_ALLOW_RUN_AS_ROOT{s}": "1" for p in ("OMPI", "PRTE") for s in ("", "_CONFIRM")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, **as_root, "PYTHONPATH": str(Path(__file__).parent), "PATH": path}
    ended = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{way} ended with {ended.returncode}:\n{ended.stdout[-3000:]}")
    report: dict[str, Any] = json.loads((folder / "p.npy.run/report.json").read_text())
    return report


def speed(runs: Sequence[dict[str, Any]]) -> float:
    """Rows a second in the loop, the median."""
    return statistics.median(report["rows_per_second"] for report in runs)


def span(numbers: Any) -> str:
    """The least and the greatest of bytes, in MiB."""
    low, high = min(found := sorted(number / MIB for number in numbers)), found[-1]
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} .. {high:,.0f}"


if __name__ == "__main__":
    main()
