"""What grows with the number of ranks: `scale.py [--ranks 1 2 4 8 16 32 64] [--repeats 3] [--output FOLDER]`.

Each launch takes one number of ranks through a small job as a user would start it, rounds of the collection,
broadcasts, and jobs with large predictions; launches of all numbers of ranks come in turn, so that what else the
machine does hits all alike. More ranks than cores share them: then seconds by the clock tell of the machine, and
seconds of CPU a rank of the program. Writes scale.json, scale.md and scale.png: the medians, a model that is fitted to
them (scale_model.py), and what it gives for more ranks than there were. --from FILE does so with figures at hand.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MIB = 1 << 20
WAYS = [("horovod", "allgather"), ("horovod", "alltoall"), ("mpi", "allgather"), ("mpi", "alltoall")]
PIECES = (0, 64 << 10, MIB)  # bytes of each rank in a round; 1 MiB is what 64 ranks send at most
ROUNDS, BROADCASTS, BROADCAST_BYTES = 5, 3, 16 * MIB
CHUNK_BYTES = 4 * MIB  # of predictions, as `runner.chunks.grid` cuts them
WIDE = [("horovod", "direct"), ("mpi", "alltoall"), ("horovod", "alltoall"), ("horovod", "allgather")]
MOST_ALLGATHER = 32  # every rank holds whole rounds: 64 of them were too much for a host with 24 GB


# ---- on every rank ----


def marked_job(folder: str) -> dict[str, Any]:
    """A small job from a cold start; the seconds of this rank when each part of the start was over, and its memory."""
    marks: dict[str, tuple[float, float]] = {}

    def mark(name: str) -> None:
        marks[name] = (time.time() - began, time.process_time())

    import numpy as np
    import torch

    from runner.engine.loop import Engine
    from runner.host.process import process_start
    from runner.job import run as job
    from runner.job import session

    began = process_start()
    mark("imports")
    connect = session.connect

    def marked_connect(*arguments: Any) -> Any:
        comm = connect(*arguments)
        mark("joining")
        return comm

    def marked_run(*arguments: Any) -> Any:
        mark("model, data, output")
        return run(*arguments)

    run = Engine.run
    session.connect, Engine.run = marked_connect, marked_run
    ranks = int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
    rows = np.ones((ranks * 64, 8), np.float32)
    job.predict(model=lambda: torch.nn.Linear(8, 8), data=rows, output=f"{folder}/s.npy", chunk_size=32, overwrite=True)
    session.connect, Engine.run = connect, run
    mark("end")
    return {"marks": marks, "rss": peak_rss()}


def peak_rss(begin_again: bool = False) -> int:
    """The most memory this process held, bytes; from now on it may begin again with what it holds now."""
    from runner.host.process import peak_rss_bytes

    peak = peak_rss_bytes()
    if begin_again:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return peak


def exchanges(comm: Any, barrier: Any, pieces: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """Seconds by the clock and of CPU of one round of each size, of a broadcast, and of an idle second."""
    import torch

    from runner.comm import wait

    def timed(repeats: int, action: Any) -> tuple[float, float]:
        barrier()
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(repeats):
            action()
        barrier()
        return (time.perf_counter() - began) / repeats, (time.process_time() - cpu) / repeats

    def one_round(parts: list[memoryview]) -> None:
        exchange = comm.start_round(b"header", parts)
        wait(exchange.done)
        assert len(exchange.result()) == comm.world.world_size

    found = {}
    for size in pieces:
        parts = [memoryview(bytes(size))] if size else []
        one_round(parts)
        found[f"round {size}"] = timed(ROUNDS, lambda parts=parts: one_round(parts))
    weights = torch.zeros(BROADCAST_BYTES, dtype=torch.uint8)
    found["broadcast"] = timed(BROADCASTS, lambda: comm.broadcast_([weights]))
    found["idle"] = timed(1, lambda: time.sleep(1))
    return found


def on_ranks(folder: str, wide_chunks: int) -> None:
    """All that one launch measures; rank 0 writes it to `measured.json`."""
    found: dict[str, Any] = marked_job(folder)
    import numpy as np
    import torch
    from mpi4py import MPI

    from runner.comm import connect
    from runner.host.launch import detect_launch
    from runner.job import run as job

    class Wide(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.expand(-1, CHUNK_BYTES // 4 // 32)

    def barrier() -> None:
        request = MPI.COMM_WORLD.Ibarrier()
        while not request.Test():
            time.sleep(0.001)

    ranks = MPI.COMM_WORLD.Get_size()
    for backend, collect in WAYS if ranks > 1 else []:
        comm = connect(detect_launch(), backend, collect, "cpu")
        for name, value in exchanges(comm, barrier, PIECES).items():
            if name.startswith("round") or collect == "allgather":
                found[f"{backend} {collect if name.startswith('round') else ''} {name}".replace("  ", " ")] = value
        comm.close()
    rows = np.ones((ranks * wide_chunks * 32, 1), np.float32)
    for backend, collect in WIDE[: 4 if ranks <= MOST_ALLGATHER else 3]:
        peak_rss(begin_again=True)
        held = peak_rss()
        options = {"batch_size": 32, "chunk_size": 32, "comm": backend, "collect": collect, "overwrite": True}
        report = job.predict(model=Wide, data=rows, output=f"{folder}/w.npy", **options)
        found[f"{backend} {collect} memory"] = report.peak_rss_bytes[MPI.COMM_WORLD.Get_rank()] - held
        found[f"{backend} {collect} loop"] = report.loop_seconds
    everyone = MPI.COMM_WORLD.gather(found, root=0)
    if everyone:
        Path(folder, "measured.json").write_text(json.dumps(everyone))


# ---- the launches ----


def launch(ranks: int, wide_chunks: int) -> dict[str, Any]:
    """What one launch measures: by rank, and how busy the machine was with other things, in cores."""
    as_root = {f"{p}_ALLOW_RUN_AS_ROOT{s}": "1" for p in ("OMPI", "PRTE") for s in ("", "_CONFIRM")}
    with tempfile.TemporaryDirectory() as folder:
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), sys.executable, __file__]
        command += ["--on-ranks", folder, "--wide-chunks", str(wide_chunks)]
        before, began, all_before = resource.getrusage(resource.RUSAGE_CHILDREN), time.time(), busy_seconds()
        env = {**os.environ, **as_root, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        seconds, after = time.time() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if done.returncode:
            sys.exit(f"{ranks} ranks ended with {done.returncode}: {done.stdout[-3000:]!r} {done.stderr[-3000:]!r}")
        by_rank = json.loads(Path(folder, "measured.json").read_text())
    return {"seconds": seconds, "others": max(0.0, busy_seconds() - all_before - own) / seconds, "ranks": by_rank}


def busy_seconds() -> float:
    """Of all processors together since the machine was started."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + sum(interrupts[:2])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--wide-chunks", type=int, default=2, help="chunks of 4 MiB that each rank hands over")
    parser.add_argument("--output", type=Path, default=Path("scale"))
    parser.add_argument("--from", dest="figures", type=Path, help="scale.json of an earlier run: measure nothing")
    parser.add_argument("--on-ranks", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.on_ranks:
        on_ranks(arguments.on_ranks, arguments.wide_chunks)
        return
    runs: dict[str, list[Any]] = json.loads(arguments.figures.read_text()) if arguments.figures else {}
    arguments.output.mkdir(parents=True, exist_ok=True)
    for repeat in range(0 if arguments.figures else arguments.repeats):
        for ranks in arguments.ranks:
            run = launch(ranks, arguments.wide_chunks)
            runs.setdefault(str(ranks), []).append(run)
            words = f"{ranks} ranks: {run['seconds']:.0f} s, others took {run['others']:.1f} cores"
            print(f"{repeat + 1}/{arguments.repeats} {words}", flush=True)
            (arguments.output / "scale.json").write_text(json.dumps(runs))
    if len(runs) > 1:
        sys.path.insert(0, str(HERE))
        from scale_model import write

        write(runs, arguments.output)


if __name__ == "__main__":
    main()
