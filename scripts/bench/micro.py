"""The parts alone, beside what MPI itself takes: `micro.py [--mebibytes 1024] [--repeats 3] [--ranks 2 4 8]`.

Broadcast of weights against MPI_Bcast, collecting predictions against MPI_Gather of the same chunks, the start until
the ranks can compute against the bare imports, and the time from the first batch to the end against the ideal where one
of three ranks is three times slower than the others (it sleeps). Medians, and ratios in the same run. More ranks than
cores share them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

BARE = """
import time, os
import torch
from mpi4py import MPI
import horovod.torch as hvd
hvd.init(comm=MPI.COMM_WORLD)
MPI.COMM_WORLD.Barrier()
if hvd.rank() == 0: print("ready", time.time())
"""
JOB = """
import time, numpy, torch, runner
class First(torch.nn.Linear):
    def forward(self, rows):
        if len(rows) == 32 and not hasattr(self, "seen"):
            self.seen = True
            print("ready", time.time())
        return super().forward(rows)
if __name__ == "__main__":
    runner.predict(model=lambda: First(8, 8), data=numpy.ones((4096, 8), "float32"), batch_size=32)
"""
BALANCE = """
import os, sys, time, numpy, torch, runner
schedule, slowness = sys.argv[1], float(sys.argv[2]) if os.environ["OMPI_COMM_WORLD_RANK"] == "1" else 1.0
class Sleeper(torch.nn.Linear):
    def forward(self, rows):
        time.sleep(0.02 * slowness)
        return super().forward(rows)
if __name__ == "__main__":
    data = numpy.ones((512 * 8, 8), "float32")
    report = runner.predict(model=lambda: Sleeper(8, 8), data=data, batch_size=8, schedule=schedule)
    if report.predictions is not None: print("seconds", report.loop_seconds)
"""


def mpirun(ranks: int, *words: str) -> str:
    """What the ranks print."""
    as_root = {f"{p}_ALLOW_RUN_AS_ROOT{s}": "1" for p in ("OMPI", "PRTE") for s in ("", "_CONFIRM")}
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), sys.executable, *words]
    env = {**os.environ, **as_root, "OMP_NUM_THREADS": "1"}
    outcome = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if outcome.returncode:
        sys.exit(outcome.stdout + outcome.stderr)
    return outcome.stdout


def start_up(repeats: int) -> None:
    """Seconds from the command to the first batch on the later of two ranks, and to the end of the bare imports."""
    found: dict[str, list[float]] = {"bare imports": [], "runner": []}
    for _ in range(repeats):
        for name, code in (("bare imports", BARE), ("runner", JOB)):
            began = time.time()
            ready = [float(line.split()[1]) for line in mpirun(2, "-c", code).splitlines() if line.startswith("ready")]
            found[name].append(max(ready) - began)
    bare, own = (statistics.median(found[name]) for name in ("bare imports", "runner"))
    print(f"start-up, 2 ranks: bare imports {bare:.2f} s, runner to its first batch {own:.2f} s: {own / bare:.2f}")


def balance(repeats: int) -> None:
    """The loop of three ranks against the ideal, with one that is slower and without."""
    for slowness in (1, 3):
        ideal, words = 512 * 0.02 / (2 + 1 / slowness), []
        for schedule in ("static", "dynamic"):
            found = [
                float(mpirun(3, "-c", BALANCE, schedule, str(slowness)).split("seconds ")[1]) for _ in range(repeats)
            ]
            words.append(f"{schedule} {statistics.median(found) / ideal:.2f}")
        print(f"3 ranks, one of them {slowness} x slower: {', '.join(words)} of the ideal {ideal:.2f} s", flush=True)


def on_ranks(backend: str, collect: str, mebibytes: int, repeats: int) -> None:
    """On every rank: time broadcast and collection; rank 0 prints."""
    import numpy as np
    import torch
    from mpi4py import MPI

    from runner.chunks.commit import Commit
    from runner.collect.collector import Collector
    from runner.comm import connect
    from runner.comm.watchdog import Watchdog
    from runner.core.checksum import checksum
    from runner.host.launch import detect_launch
    from runner.host.stop import Stop
    from runner.telemetry.timeline import Timeline

    comm = connect(detect_launch(), backend, collect, "cpu")
    world, mpi = comm.world, MPI.COMM_WORLD
    times: dict[str, list[float]] = {"MPI_Bcast": [], "broadcast": [], "MPI_Gather": [], "collect": []}

    def timed(name: str) -> None:
        mpi.Barrier()
        times[name].append(time.perf_counter() - began)

    weights = torch.ones(mebibytes << 20, dtype=torch.uint8)
    rows = np.ones((1 << 10, 1 << 10), np.float32)  # 4 MiB
    num_chunks = mebibytes // 4 // world.world_size
    received = np.empty((world.world_size, *rows.shape), np.float32) if world.rank == 0 else None
    kept = np.empty_like(rows)
    for _ in range(repeats):
        mpi.Barrier()
        began = time.perf_counter()
        mpi.Bcast(weights[: 1 << 30].numpy(), root=0)
        timed("MPI_Bcast")
        began = time.perf_counter()
        comm.broadcast_([weights])
        timed("broadcast")
        began = time.perf_counter()
        for _ in range(num_chunks):
            mpi.Gather(rows, received, root=0)
            for index in range(world.world_size if world.rank == 0 else 0):
                kept[:] = received[index]
        timed("MPI_Gather")
        began = time.perf_counter()
        with Collector(
            comm,
            lambda start, rows: np.copyto(kept, rows),
            lambda commit: None,
            False,
            Stop(None),
            Watchdog(comm, 60),
            Timeline(0.0),
        ) as collector:
            for index in range(num_chunks):
                collector.put(Commit(index, index, index + 1, checksum(rows), "", world.rank, 0.0), rows)
            collector.close()
        timed("collect")
    if world.rank == 0:
        rate = {name: mebibytes / 1024 / statistics.median(seconds) for name, seconds in times.items()}
        print(
            f"{world.world_size} ranks, {backend} {collect}: broadcast {rate['broadcast']:.2f} GiB/s, "
            f"{rate['broadcast'] / rate['MPI_Bcast']:.2f} of MPI_Bcast; collect {rate['collect']:.2f} GiB/s, "
            f"{rate['collect'] / rate['MPI_Gather']:.2f} of MPI_Gather",
            flush=True,
        )
    comm.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--on-ranks", nargs=2, metavar=("COMM", "COLLECT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.on_ranks:
        on_ranks(*arguments.on_ranks, arguments.mebibytes, arguments.repeats)
        return
    start_up(arguments.repeats)
    balance(arguments.repeats)
    sizes = ["--mebibytes", str(arguments.mebibytes), "--repeats", str(arguments.repeats)]
    for ranks in arguments.ranks:
        for backend in ("horovod", "mpi"):
            for collect in ("allgather", "alltoall"):
                print(mpirun(ranks, __file__, *sizes, "--on-ranks", backend, collect), end="", flush=True)


if __name__ == "__main__":
    main()
