"""Measurements on the ranks and between them: clocks, speed, broadcast, collection."""

import time

import numpy as np
import torch

from runner.comm import Comm, wait
from runner.commands.doctor.finding import OK, WARNING, WRONG, Finding
from runner.core.checksum import checksum
from runner.core.errors import RunnerError
from runner.core.text import byte_size, duration, name_some

_MIB = 1 << 20
_MOST_SKEW_SECONDS = 2.0
_SIZE = 512  # of matrices
_PRODUCTS = 100  # a product takes a few ms on one core, less than a scheduler's time slice
_SLOWER = 1.5  # times the usual seconds
_MOST_OFF = 0.01  # of the largest value: far more than the effect of the order of additions
_BROADCAST_BYTES = 64 * _MIB
_PIECE_BYTES = 4 * _MIB
_TIMES = 3
_SLOW_BYTES_PER_SECOND = 50 * _MIB


def check_clocks(comm: Comm) -> list[Finding]:
    """Measure, to a few milliseconds, how much the hosts' clocks differ from rank 0's. Every rank calls this."""
    skews = np.full(comm.world.world_size, np.inf)
    for _ in range(_TIMES):
        comm.bcast(None)  # all ranks return from it at about the same moment
        times = np.array(comm.gather_all(time.time()))
        skews = np.where(np.abs(times - times[0]) < np.abs(skews), times - times[0], skews)
    names = comm.gather_all(comm.world.who)
    worst = int(np.argmax(np.abs(skews)))
    figures = {"seconds": float(abs(skews[worst]))}
    if figures["seconds"] > _MOST_SKEW_SECONDS:
        off = name_some(
            f"{names[rank]} by {skews[rank]:+.1f} s" for rank in np.flatnonzero(np.abs(skews) > _MOST_SKEW_SECONDS)
        )
        fix = "synchronize them (NTP, chrony), or time limits and the times in the records are wrong"
        return [Finding("clocks", WARNING, f"they differ from rank 0's: {off}", fix, figures)]
    return [Finding("clocks", OK, f"they agree to {duration(figures['seconds'])}", figures=figures)]


def check_speed(comm: Comm, device: torch.device) -> list[Finding]:
    """Let all ranks compute the same at the same time, and find those that are slow or wrong. Every rank calls this."""
    numbers = torch.Generator().manual_seed(0)
    matrix = torch.randn(_SIZE, _SIZE, generator=numbers).to(device)
    comm.bcast(None)
    result = matrix
    seconds = []
    with torch.inference_mode():
        for _ in range(_PRODUCTS):
            began = time.perf_counter()
            result = (matrix @ matrix).cpu()  # waits for a GPU
            seconds.append(time.perf_counter() - began)
    names = comm.gather_all(comm.world.who)
    best, usual = (np.array(comm.gather_all(s)) for s in (min(seconds), float(np.median(seconds))))
    figures = {name: list(2 * _SIZE**3 / s) for name, s in (("best_flops", best), ("usual_flops", usual))}
    digests = comm.gather_all(checksum(result.numpy()))
    reference = comm.bcast(result)
    off = float((result - reference).abs().nan_to_num(torch.inf).max() / reference.abs().max())
    if wrong := [names[rank] for rank in np.flatnonzero(np.array(comm.gather_all(off)) > _MOST_OFF)]:
        message = f"{name_some(wrong)} computes other values than rank 0"
        fix = "its processor, GPU or libraries are faulty: exclude the host"
        return [Finding("speed", WRONG, message, fix, figures, RunnerError.exit_code)]
    if slow := judge_speed(names, best, usual):
        fix = "exclude the host, or use --schedule dynamic, which gives slow ranks fewer rows"
        return [Finding("speed", WARNING, slow, fix, figures)]
    same = "to the last bit" if len(set(digests)) == 1 else "except for the last bits (different processors)"
    flops = figures["usual_flops"]
    message = f"{min(flops) / 1e9:,.0f} to {max(flops) / 1e9:,.0f} GFLOP/s per rank; answers are the same {same}"
    return [Finding("speed", OK, message, figures=figures)]


def judge_speed(names: list[str], best: np.ndarray, usual: np.ndarray) -> str:
    """Describe the ranks that are slow; empty where none is.

    Args:
        names: names of the ranks.
        best, usual: the shortest and the median seconds of each rank for the same few milliseconds of work. Other
            programs on a CPU do not change the shortest.
    """
    for seconds, why in ((best, "its processor is slower"), (usual, "other programs or ranks use its CPUs")):
        most = np.quantile(seconds, 0.5, method="lower")
        if slow := [names[rank] for rank in np.flatnonzero(seconds > _SLOWER * most)]:
            return f"{name_some(slow)}: {seconds.max() / most:.1f} times slower than most; {why}"
    return ""


def check_rates(comm: Comm) -> list[Finding]:
    """Time broadcast and collection, and check that all arrives as it was sent. Every rank calls this."""
    if comm.world.world_size == 1:
        return []
    broadcast_seconds = [_broadcast(comm, seed) for seed in range(_TIMES)]
    rounds = [_collect(comm, _PIECE_BYTES, seed) for seed in range(_TIMES)]
    empty = [_collect(comm, 0, 0) for _ in range(10)]
    piece = _PIECE_BYTES * comm.world.world_size
    figures = {
        "broadcast_bytes_per_second": _BROADCAST_BYTES / min(broadcast_seconds),
        "collect_bytes_per_second": piece / min(rounds),
        "empty_round_seconds": float(np.median(empty)),
    }
    rates = comm.bcast(figures)
    message = (
        f"broadcast {byte_size(rates['broadcast_bytes_per_second'])}/s, collect "
        f"{byte_size(rates['collect_bytes_per_second'])}/s, an empty round "
        f"{duration(rates['empty_round_seconds'])}; all arrived as sent"
    )
    if min(rates["broadcast_bytes_per_second"], rates["collect_bytes_per_second"]) < _SLOW_BYTES_PER_SECOND:
        fix = "check that MPI uses the fast network: mpirun and srun do more often than horovodrun, which uses TCP"
        return [Finding("rates", WARNING, message, fix, rates)]
    return [Finding("rates", OK, message, figures=rates)]


def _broadcast(comm: Comm, seed: int) -> float:
    """Return the seconds of one broadcast; raise RunnerError on every rank if other bytes arrive on any of them."""
    expected = _pattern(_BROADCAST_BYTES, seed)
    tensor = torch.from_numpy(expected.copy() if comm.world.rank == 0 else np.zeros_like(expected))
    comm.bcast(None)
    began = time.perf_counter()
    comm.broadcast_([tensor])
    seconds = time.perf_counter() - began
    comm.on_each(lambda: _compare(tensor.numpy(), expected, "a broadcast"))
    return seconds


def _collect(comm: Comm, size: int, seed: int) -> float:
    """Return the seconds of one round of collection; raise RunnerError on every rank if other bytes arrive."""
    piece = _pattern(size, 1000 * seed + comm.world.rank)
    comm.bcast(None)
    began = time.perf_counter()
    round_ = comm.start_round(b"header", [memoryview(piece)])
    wait(round_.done)
    received = round_.result()
    seconds = time.perf_counter() - began

    def look() -> None:
        for rank, (_, data) in enumerate(received):
            _compare(data, _pattern(size, 1000 * seed + rank), f"the piece of rank {rank}")

    comm.on_root(look)
    return seconds


def _pattern(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def _compare(data: np.ndarray, expected: np.ndarray, what: str) -> None:
    if not np.array_equal(data, expected):
        raise RunnerError(f"{what} arrived damaged: the network or the MPI library is faulty")
