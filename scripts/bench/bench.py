"""The runner beside what its users would write or take instead: workloads x systems, on this machine, interleaved.

    python scripts/bench/bench.py --peers-python PATH [--workloads tabular images] [--repeats 5] [--fraction 1.0]

Every system runs the same model over the same file on two ranks with one thread each, and must leave one .npy, in
order. Repeats are interleaved, so that what else the machine does hits all alike; figures are medians, and the ratios
are of medians in the same run. Writes bench.json, bench.md and bench.png into --output. PATH is the Python of an
environment with the packages in peers.txt; systems whose package is missing there are left out, by name.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
RANKS = 2
MPIRUN = ["mpirun", "--bind-to", "none", "-np", str(RANKS)]
WAYS = {
    "allgather": [],
    "alltoall": ["--collect", "alltoall"],
    "direct": ["--collect", "direct"],
    "allgather, dynamic": ["--schedule", "dynamic"],
    "direct, dynamic": ["--collect", "direct", "--schedule", "dynamic"],
    "mpi alltoall": ["--comm", "mpi", "--collect", "alltoall"],
}
PEERS = {  # script, package it needs, its last word
    "plain loop, 1 process": ("plain", "torch", ""),
    "mpi4py + memmap": ("mpi4py_memmap", "mpi4py", ""),
    "mpi4py + memmap, sorted by length": ("mpi4py_memmap", "mpi4py", "sorted"),
    "torchrun + gather": ("torchrun_gather", "torch", ""),
    "Accelerate": ("accelerate_gather", "accelerate", ""),
    "Accelerate, whole batches": ("accelerate_gather", "accelerate", "best"),
    "Lightning": ("lightning_predict", "lightning", ""),
    "Lightning, whole batches": ("lightning_predict", "lightning", "best"),
    "Ray Data": ("ray_data", "ray", ""),
}


@dataclass
class Measured:
    """One run of one system. Seconds, rows and bytes.

    Attributes:
        wall_seconds: of the whole command.
        startup_seconds: from its start to the first whole batch, on the latest rank.
        rows_per_second: from the first whole batch of the first rank to the last of the last.
        cpu_seconds: user and system, of all processes.
        peak_rss_bytes: of the largest process.
        total_rss_bytes: the sum of the processes' peaks.
        is_right: every prediction in its place, within rounding.
        is_equal: the same bytes as the plain loop's.
    """

    wall_seconds: float
    startup_seconds: float
    rows_per_second: float
    cpu_seconds: float
    peak_rss_bytes: int
    total_rss_bytes: int
    is_right: bool = True
    is_equal: bool = True


class Memory(threading.Thread):
    """Watches the peak memory of a process and all that come from it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.family, self.peaks, self.ended = {pid}, {}, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda entry: int(entry.name)):
                try:
                    status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines())
                    if int(entry.name) in self.family or int(status["PPid"]) in self.family:
                        self.family.add(int(entry.name))
                        self.peaks[entry.name] = int(status["VmHWM"].split()[0]) * 1024
                except (OSError, KeyError):
                    continue


def measure(command: list[str], folder: Path, python_path: str, bin_folder: Path) -> Measured:
    """Run a command to its end; raise RuntimeError with its output where it fails."""
    marks = folder / "marks"
    shutil.rmtree(marks, ignore_errors=True)
    marks.mkdir()
    as_root = {f"{p}_ALLOW_RUN_AS_ROOT{s}": "1" for p in ("OMPI", "PRTE") for s in ("", "_CONFIRM")}
    env = {**os.environ, **as_root, "PYTHONPATH": python_path, "BENCH_MARKS": str(marks)}
    env["PATH"] = f"{bin_folder}:{env['PATH']}"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    log = (folder / "log").open("w+")
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    memory = Memory(process.pid)
    memory.start()
    code = process.wait()
    ended, after = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    memory.ended.set()
    memory.join()
    if code:
        log.seek(0)
        raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{log.read()[-3000:]}")
    notes = [struct.unpack("ddq", path.read_bytes()) for path in marks.iterdir()]
    first, last = min(n[0] for n in notes), max(n[1] for n in notes)
    return Measured(
        wall_seconds=ended - began,
        startup_seconds=max(n[0] for n in notes) - began,
        rows_per_second=sum(n[2] for n in notes) / (last - first),
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_rss_bytes=max(memory.peaks.values(), default=0),
        total_rss_bytes=sum(memory.peaks.values()),
    )


def commands(
    workload: str, data: Path, peers_python: Path | None, only: list[str]
) -> dict[str, tuple[list[str], Path]]:
    """The command of each system, or only of some, with OUTPUT for its output, and the folder of its programs."""
    from workloads import WORKLOADS

    job = WORKLOADS[workload]
    own, found = Path(sys.executable).parent, {}
    options = ["--model", f"workloads:{job.model.__name__}", "--batch-size", str(job.batch_size), "--threads", "1"]
    if job.preprocess and not job.is_ragged:  # the runner pads by itself
        options += ["--preprocess", f"workloads:{job.preprocess.__name__}"]
    for name, way in WAYS.items():
        if only and f"runner, {name}" not in only:
            continue
        predict = [sys.executable, "-m", "runner", "predict", *options, "--data", str(data), "--output", "OUTPUT"]
        found[f"runner, {name}"] = ([*MPIRUN, *predict, *way], own)
    for name, (script, package, word) in PEERS.items():
        if (only and name not in only) or (word == "sorted" and not job.is_ragged):
            continue
        # the same MPI as the runner's, for a fair start
        python = Path(sys.executable) if script.startswith("mpi4py") else peers_python or Path(sys.executable)
        if subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode:
            print(f"{name} is left out: {python} has no {package}", flush=True)
            continue
        launcher = [str(python)]
        if script.startswith("mpi4py"):
            launcher = [*MPIRUN, str(python)]
        elif script.startswith(("torchrun", "accelerate")):
            launcher = [str(python), "-m", "torch.distributed.run", f"--nproc-per-node={RANKS}"]
        arguments = [str(HERE / f"peers/{script}.py"), workload, str(data), "OUTPUT", *filter(None, [word])]
        found[name] = ([*launcher, *arguments], python.parent)
    return found


def measure_limit(workload: str, data: Path, folder: Path) -> Measured:
    """Forward calls only; all processes begin together."""
    go = folder / "go"
    shutil.rmtree(go, ignore_errors=True)
    go.mkdir()
    one = f"{sys.executable} {HERE}/peers/limit.py {workload} {data}"
    script = "".join(f"{one} {rank} {RANKS} {go} & " for rank in range(RANKS)) + "wait"
    return measure(["bash", "-c", script], folder, str(HERE), Path(sys.executable).parent)


def compare(output: Path, expected: np.ndarray) -> tuple[bool, bool]:
    """Whether an output is right within rounding, and to the byte."""
    found = np.load(output, mmap_mode="r")
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False, False
    is_equal = all(
        found[start : start + 65536].tobytes() == expected[start : start + 65536].tobytes()
        for start in range(0, len(expected), 65536)
    )
    return is_equal or bool(np.allclose(found, expected, rtol=1e-3, atol=1e-5)), is_equal


def run_workload(
    name: str, num_rows: int, repeats: int, peers_python: Path | None, only: list[str]
) -> Iterator[dict[str, list[Measured]]]:
    """Every system so many times, in turn; yields what there is after each turn."""
    from workloads import WORKLOADS

    results: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = WORKLOADS[name].write(num_rows, folder / "data")
        systems = commands(name, data, peers_python, only)
        expected = folder / "expected.npy"
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), "BENCH_MARKS": str(folder)}
        plain = [sys.executable, str(HERE / "peers/plain.py"), name, str(data), str(expected)]
        subprocess.run(plain, env=env, check=True)
        right = np.load(expected, mmap_mode="r")
        for repeat in range(repeats):
            results.setdefault("limit", []).append(measure_limit(name, data, folder))
            for system, (command, bin_folder) in list(systems.items()):
                output = folder / "output.npy"
                for old in folder.glob("output.npy*"):
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
                words = [str(output) if word == "OUTPUT" else word for word in command]
                try:
                    measured = measure(words, folder, str(HERE), bin_folder)
                except RuntimeError as error:
                    print(error, flush=True)
                    del systems[system]
                    continue
                is_right, is_equal = compare(output, right)
                results.setdefault(system, []).append(replace(measured, is_right=is_right, is_equal=is_equal))
                print(f"{name} {repeat + 1}/{repeats} {system}: {measured.wall_seconds:.2f} s", flush=True)
            yield results


def user_lines(system: str) -> int:
    """Lines a user has to write besides model and preprocessing: code of the script; for the runner, the command."""
    if system.startswith("runner"):
        return 1
    script = PEERS[system][0]
    lines = (HERE / f"peers/{script}.py").read_text().split('"""', 2)[2].splitlines()
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


def table(title: str, results: dict[str, list[Measured]]) -> str:
    """The figures of one workload, in Markdown."""

    def median(system: str, figure: str) -> float:
        return statistics.median(getattr(measured, figure) for measured in results[system])

    limit_rate, limit_cpu = median("limit", "rows_per_second"), median("limit", "cpu_seconds")
    walls = {system: median(system, "wall_seconds") for system in results if system != "limit"}
    text = [f"### {title}", ""]
    text += [
        "| system | whole command, s | of the runner's | start-up, s | rows/s, of the limit's | CPU s, of the limit's "
    ]
    text[-1] += "| largest process, MB | all, MB | right | same bytes | lines |"
    text += ["| --- " * 11 + "|"]
    base = walls.get("runner, allgather", min(walls.values()))
    for system in sorted(walls, key=lambda system: walls[system]):
        runs = results[system]
        spread = f"{min(m.wall_seconds for m in runs):.2f}..{max(m.wall_seconds for m in runs):.2f}"
        cells = [
            system,
            f"{walls[system]:.2f} ({spread})",
            f"{walls[system] / base:.2f}",
            f"{median(system, 'startup_seconds'):.2f}",
            f"{median(system, 'rows_per_second') / limit_rate:.2f}",
            f"{median(system, 'cpu_seconds') / limit_cpu:.2f}",
            f"{median(system, 'peak_rss_bytes') / 1e6:.0f}",
            f"{median(system, 'total_rss_bytes') / 1e6:.0f}",
            "yes" if all(m.is_right for m in runs) else "NO",
            "yes" if all(m.is_equal for m in runs) else "no",
            str(user_lines(system)),
        ]
        text.append("| " + " | ".join(cells) + " |")
    runs = results["limit"]
    text += ["", f"The limit: {limit_rate:,.0f} rows/s, {limit_cpu:.1f} CPU s with start-up; {len(runs)} repeats.", ""]
    return "\n".join(text)


def plot(results: dict[str, dict[str, list[Measured]]], path: Path) -> None:
    """Whole commands, start-up marked, one panel a workload, one above another."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(len(results), figsize=(9, 3.6 * len(results)), squeeze=False)
    for panel, (title, systems) in zip(panels[:, 0], results.items(), strict=True):
        walls = {k: statistics.median(m.wall_seconds for m in v) for k, v in systems.items() if k != "limit"}
        names = sorted(walls, key=lambda name: -walls[name])
        starts = [min(walls[n], statistics.median(m.startup_seconds for m in systems[n])) for n in names]
        colors = ["#1f6fb4" if name.startswith("runner") else "#9aa5b1" for name in names]
        panel.barh(names, [walls[name] for name in names], color=colors)
        panel.barh(names, starts, color="#00000033")
        for row, name in enumerate(names):
            panel.text(walls[name], row, f" {walls[name]:.1f}", va="center")
        panel.set_title(f"{title}, {RANKS} ranks", loc="left")
        panel.set_xlabel("seconds for the whole command, median; dark: until the first batch")
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """The command line."""
    from workloads import WORKLOADS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--systems", nargs="+", default=[], help="only these, by name")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the rows of each workload")
    parser.add_argument("--peers-python", type=Path, help="Python of the peers' environment")
    parser.add_argument("--output", type=Path, default=Path("bench"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, list[Measured]]] = {}
    for name in arguments.workloads:
        num_rows = int(WORKLOADS[name].num_rows * arguments.fraction)
        title = f"{name}: {num_rows:,} rows"
        for found in run_workload(name, num_rows, arguments.repeats, arguments.peers_python, arguments.systems):
            results[title] = found
            write(results, arguments.output)  # after each turn: a long benchmark that is killed leaves what it has
        print(table(title, results[title]), flush=True)


def write(results: dict[str, dict[str, list[Measured]]], folder: Path) -> None:
    """Leave table, figures and plot."""
    (folder / "bench.md").write_text("\n".join(table(title, systems) for title, systems in results.items()))
    plain = {title: {k: [asdict(m) for m in runs] for k, runs in systems.items()} for title, systems in results.items()}
    (folder / "bench.json").write_text(json.dumps(plain, indent=1) + "\n")
    plot(results, folder / "bench.png")


if __name__ == "__main__":
    main()
