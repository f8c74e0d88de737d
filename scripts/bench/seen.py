"""What it costs to see: the runner against itself without timeline, display, status and page, in turn.

    python scripts/bench/seen.py [--repeats N] [--fraction F]

Prints the medians of the whole command and of the processes' CPU time, for each workload of `workloads.py` that is
named, and their ratios.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from bench import HERE, MPIRUN, measure


def main() -> None:
    from workloads import WORKLOADS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=["tabular", "images"], choices=list(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the rows of each workload")
    arguments = parser.parse_args()
    for name in arguments.workloads:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, int(WORKLOADS[name].num_rows * arguments.fraction), arguments.repeats, Path(folder))


def compare(name: str, num_rows: int, repeats: int, folder: Path) -> None:
    """Run both in turn, and print."""
    from workloads import WORKLOADS

    job, python = WORKLOADS[name], sys.executable
    data = job.write(num_rows, folder / "data")
    options = ["--model", f"workloads:{job.model.__name__}", "--batch-size", str(job.batch_size), "--threads", "1"]
    if job.preprocess and not job.is_ragged:
        options += ["--preprocess", f"workloads:{job.preprocess.__name__}"]
    options += ["--data", str(data), "--output", str(folder / "p.npy"), "--collect", "alltoall"]
    ways = {"with": [python, "-m", "runner"], "without": [python, str(HERE / "unseen.py")]}
    wall: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in sorted(ways, reverse=bool(repeat % 2)):
            for old in folder.glob("p.npy*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            found = measure([*MPIRUN, *ways[way], "predict", *options], folder, str(HERE), Path(python).parent)
            wall[way].append(found.wall_seconds)
            cpu[way].append(found.cpu_seconds)
    for what, seconds in (("whole command", wall), ("CPU", cpu)):
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        pairs = [a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
        print(
            f"{name}, {what}: {medians['with']:.2f} s with, {medians['without']:.2f} s without, median of the ratios "
            f"{statistics.median(pairs):.3f}, {min(pairs):.3f} to {max(pairs):.3f} in {repeats}",
            flush=True,
        )


if __name__ == "__main__":
    main()
