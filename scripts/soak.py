"""Kill jobs at random moments and let others go on, until so many are killed: `soak.py --kills 60 --seed 1`.

Each job runs on 1 to 4 ranks, under mpirun, horovodrun or no launcher, with either schedule and any way to collect.
Predictions are of one size, in a .npy file that is written in place, or lists and text, in a Parquet file that is
spooled first; or a folder of such files. After a random time one of these gets SIGKILL: a random rank, rank 0, the
launcher, or all of them at once. The next job goes on, on another number of ranks. Every output that becomes whole is
compared with that of an undisturbed run, verified, and its ledger searched for chunks that were computed twice. Exits
with 1 at the first deviation, hang, or process left behind.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MODEL = """
import time, torch
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 5)

    def forward(self, rows):
        time.sleep(0.01)
        return self.linear(rows)

class Unlike(Slow):
    def forward(self, rows):
        lengths = (rows[:, 0] * 9).long().tolist()
        spans = torch.nested.nested_tensor([row[:n] for row, n in zip(super().forward(rows), lengths)])
        return {"spans": spans, "words": ["word " * n for n in lengths]}

def side_by_side(columns):
    return torch.stack([columns[name] for name in "abcdefgh"], dim=1).float()
"""
COMMAND = [sys.executable, "-m", "runner", "predict", "--batch-size", "8", "--threads", "1"]
WAYS = {
    "--schedule": ("static", "dynamic"),
    "--comm": ("horovod", "mpi"),
}
PLAIN = ["--model", "soak_model:Slow", "--data", "rows.npy", "--output", "p.npy"]
SPOOLED = ["--model", "soak_model:Unlike", "--data", "rows.csv", "--columns", ",".join("abcdefgh"), "--keep", "id"]
SPOOLED += ["--preprocess", "soak_model:side_by_side", "--output", "p.parquet"]
KINDS = {  # of output: the job, and the ways to collect
    "file": (PLAIN, ("allgather", "alltoall", "direct")),
    "folder": (PLAIN, ("shards",)),
    "spooled file": (SPOOLED, ("allgather", "alltoall")),
    "spooled folder": (SPOOLED, ("shards",)),
}
NUM_ROWS = 3001
VICTIMS = ("a rank", "rank 0", "the launcher", "all at once")
END_SECONDS = 30


def environment() -> dict[str, str]:
    """Of the jobs; Open MPI refuses root unless told so, in two spellings."""
    as_root = {f"{p}_ALLOW_RUN_AS_ROOT{s}": "1" for p in ("OMPI", "PRTE") for s in ("", "_CONFIRM")}
    return {**os.environ, **as_root, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def processes(folder: Path) -> dict[int, int]:
    """The ranks of the job in this folder: pid by rank."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() != folder or b"\0runner\0predict" not in (entry / "cmdline").read_bytes():
                continue
            if b"mpirun" in (entry / "cmdline").read_bytes():
                continue
            variables = dict(v.split("=", 1) for v in (entry / "environ").read_text().split("\0") if "=" in v)
            found[int(variables.get("OMPI_COMM_WORLD_RANK", "0"))] = int(entry.name)
        except (OSError, ValueError):
            continue
    return found


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def strike(victim: str, launcher_pid: int, folder: Path, rng: random.Random) -> bool:
    """Kill; False where there was nothing to kill yet."""
    ranks = processes(folder)
    pids = {
        "a rank": [rng.choice(sorted(ranks.values()))] if ranks else [],
        "rank 0": [ranks[0]] if 0 in ranks else [],
        "the launcher": [launcher_pid],
        "all at once": [launcher_pid, *ranks.values()],
    }[victim]
    for pid in pids:
        kill(pid)
    return bool(pids)


def await_end(process: "subprocess.Popen[bytes]", folder: Path) -> float:
    """Wait until the launcher and all ranks are gone; returns how long it took."""
    began = time.monotonic()
    while process.poll() is None or processes(folder):
        if time.monotonic() - began > END_SECONDS:
            left = processes(folder)
            for pid in [process.pid, *left.values()]:
                kill(pid)
            sys.exit(f"soak: after {END_SECONDS} s these are still there: launcher {process.poll()}, ranks {left}")
        time.sleep(0.02)
    return time.monotonic() - began


def chunks_computed(output: Path) -> list[int]:
    """The chunks in the ledger of an output, as often as they were committed."""
    path = Path(f"{output}.run") / "ledger.jsonl"
    lines = path.read_bytes().split(b"\n")[1:-1] if path.exists() else []
    return [record["chunk"] for record in map(json.loads, lines) if "chunk" in record]


def content(output: Path) -> list[tuple[str, bytes]]:
    """Of a file or a folder, to be compared."""
    files = sorted(output.iterdir()) if output.is_dir() else [output]
    return [(path.name, path.read_bytes()) for path in files]


def check_whole(output: Path, expected: list[tuple[str, bytes]]) -> None:
    """Compare a finished output, and make room for the next."""
    if content(output) != expected:
        sys.exit(f"soak: {output.name} differs from that of the undisturbed run")
    command = [sys.executable, "-m", "runner", "verify", output.name]
    subprocess.run(command, cwd=output.parent, check=True, capture_output=True)
    chunks = chunks_computed(output)
    if len(chunks) != len(set(chunks)):
        sys.exit(f"soak: computed twice: {[c for c, n in collections.Counter(chunks).items() if n > 1]}")
    shutil.rmtree(output) if output.is_dir() else output.unlink()
    shutil.rmtree(f"{output}.run")
    Path(f"{output}.partial").unlink(missing_ok=True)  # a job may be killed between its last record and its end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "soak_model.py").write_text(MODEL)
        rows = np.random.default_rng(arguments.seed).random((NUM_ROWS, 8), dtype=np.float32)
        np.save(folder / "rows.npy", rows)
        lines = [",".join(map(str, [f"row {index}", *row])) for index, row in enumerate(rows.tolist())]
        (folder / "rows.csv").write_text("\n".join([",".join(["id", *"abcdefgh"]), *lines]))
        expected = {}
        for kind, (job, collect) in KINDS.items():
            subprocess.run([*COMMAND, *job, "--collect", collect[0]], cwd=folder, check=True, capture_output=True)
            expected[kind] = content(folder / job[-1])
            check_whole(folder / job[-1], expected[kind])

        kills: collections.Counter[str] = collections.Counter()
        wholes, longest, former_ranks, kind = 0, 0.0, 1, rng.choice(list(KINDS))
        while sum(kills.values()) < arguments.kills:
            ranks = rng.choice([n for n in (1, 2, 3, 4) if n != former_ranks])
            launcher = rng.choice([[], ["mpirun", "-np", "1"]] if ranks == 1 else [["mpirun"], ["horovodrun"]])
            if ranks > 1:
                launcher = [*launcher, "-np", str(ranks)]
                launcher[1:1] = ["--oversubscribe", "--bind-to", "none"] if launcher[0] == "mpirun" else []
            way = [word for option, values in WAYS.items() for word in (option, rng.choice(values))]
            job, collect = KINDS[kind]
            output = folder / job[-1]
            way += ["--collect", rng.choice(collect)]
            log = (folder / "log").open("wb")
            process = subprocess.Popen(
                [*launcher, *COMMAND, *job, *way],
                cwd=folder,
                # what a launcher that is killed leaves there keeps one that gets the same process id from starting
                env={**environment(), "TMPDIR": tempfile.mkdtemp(dir=folder)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
            log.close()
            # mostly while it computes: from the first commit on, which comes after some seconds of start-up
            before = len(chunks_computed(output))
            if rng.random() < 0.8:
                while process.poll() is None and len(chunks_computed(output)) == before:
                    time.sleep(0.01)
                time.sleep(rng.uniform(0, 4.0 / ranks))
            else:
                time.sleep(rng.uniform(0.5, 5.0))
            victim = rng.choice(VICTIMS)
            if process.poll() is None and strike(victim, process.pid, folder, rng):
                kills[victim] += 1
            longest = max(longest, await_end(process, folder))
            if output.exists():
                wholes += 1
                if not (Path(f"{output}.run") / "report.json").exists():  # it died between the name and the last record
                    again = [*COMMAND, *job, "--collect", collect[0]]
                    subprocess.run(again, cwd=folder, check=True, capture_output=True)
                check_whole(output, expected[kind])
                kind = rng.choice(list(KINDS))
            former_ranks = ranks
            print(f"{sum(kills.values())} kills, {wholes} whole outputs", end="\r", flush=True)
        counts = ", ".join(f"{count} of {victim}" for victim, count in kills.items())
        print(f"soak: seed {arguments.seed}: {sum(kills.values())} kills ({counts}); {wholes} outputs became whole,")
        print(
            f"all as undisturbed; no chunk computed twice; each job was gone {longest:.1f} s after its kill or before"
        )


if __name__ == "__main__":
    main()
