"""What scale.py has measured as medians, a model that is fitted to them, and both as a table and a plot.

A figure of N ranks that each have a piece of b bytes is taken to be a + b1 log2 N + c N + d b + e N b: what is the same
for every number of ranks, what a tree or a ring of doubling steps costs, what is done once for each rank, and for each
byte of this rank's and of all. No coefficient may be negative, because nothing becomes cheaper with more ranks. A term
is there only if it explains more than noise would (Schwarz's criterion, 1978), of the relative error.
"""

import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TERMS = ("1", "log2 N", "N", "b", "N b")
MIB = 1 << 20
EXACT = 1e-18  # a mean squared relative error that is rounding
# of `runner.collect.collector`: all ranks' pieces of a round, and one rank's
ROUND_BYTES, PIECE_BYTES = 64 * MIB, 8 * MIB
BEYOND = (256, 1024, 4096)
WAYS = ("horovod allgather", "horovod alltoall", "mpi allgather", "mpi alltoall")  # of a round
WIDE = ("horovod direct", "horovod alltoall", "horovod allgather", "mpi alltoall")  # of jobs with large predictions
LOOKS = (("#1f6fb4", "o"), ("#9aa5b1", "s"), ("#123b5d", "^"), ("#5f6b76", "v"))  # a color and a mark each
Runs = dict[str, list[dict[str, Any]]]  # launches, by number of ranks
Pick = Callable[[dict[str, Any]], float]  # a figure of one rank


def terms(ranks: float, piece: float = 0.0) -> list[float]:
    """The values of TERMS."""
    return [1.0, float(np.log2(ranks)), float(ranks), piece, ranks * piece]


def fit(points: Sequence[tuple[float, float]], values: Sequence[float], among: Sequence[str] = TERMS) -> np.ndarray:
    """The coefficients of TERMS, none below 0: of the sets of terms the one of least BIC, by relative errors.

    Args:
        points: (ranks, bytes of a rank's piece); where no piece has bytes, their coefficients are 0.
        values: what was measured there, above 0.
        among: the terms that there may be; the coefficients of others are 0.
    """
    matrix = np.array([terms(*point) for point in points]) / np.array(values)[:, None]
    usable = [column for column, term in enumerate(TERMS) if term in among and matrix[:, column].any()]
    best, least = np.zeros(len(TERMS)), float("inf")
    for count in range(1, len(usable) + 1):
        for chosen in itertools.combinations(usable, count):
            part = matrix[:, chosen] / (scale := np.abs(matrix[:, chosen]).max(axis=0))
            found = np.linalg.lstsq(part, np.ones(len(values)), rcond=None)[0]
            error = max(float(np.square(part @ found - 1).mean()), EXACT)
            criterion = len(values) * np.log(error) + count * np.log(len(values))
            if (found >= 0).all() and criterion < least:
                best, least = np.zeros(len(TERMS)), criterion
                best[list(chosen)] = found / scale
    return best


def median(runs: Runs, ranks: int, pick: Pick, who: str) -> float:
    """A figure of "rank 0", of the "others" (their median), or of the "last" (the largest): median of the launches."""
    of = {"rank 0": lambda v: v[0], "others": lambda v: statistics.median(v[1:] or v), "last": max}[who]
    return statistics.median(of([pick(rank) for rank in run["ranks"]]) for run in runs[str(ranks)])


def counts_with(runs: Runs, name: str) -> list[int]:
    """The numbers of ranks at which something was measured."""
    return [n for n in sorted(map(int, runs)) if name in runs[str(n)][0]["ranks"][0]]


def start(name: str, by_clock: bool = False) -> Pick:
    """Seconds of CPU, or by the clock, from the start of a process until a part of its start is over."""
    return lambda rank: rank["marks"][name][0 if by_clock else 1]


def until(name: str, former: str) -> Pick:
    return lambda rank: start(name)(rank) - start(former)(rank)


def cpu(name: str) -> Pick:
    return lambda rank: rank[name][1]


def clock(name: str) -> Pick:
    return lambda rank: rank[name][0]


def memory(way: str) -> Pick:
    """The most bytes that a rank held in a job with large predictions: what the small job took, and what came to it."""
    return lambda rank: rank["rss"] + rank[f"{way} memory"]


class Figure:
    """One figure over the numbers of ranks, and its model.

    Args:
        runs: the launches.
        name: of the figure.
        picks: how it is found, by the bytes of a rank's piece.
        who: whose it is, as `median` has it.
        needs: what a rank must have measured for it.
    """

    def __init__(self, runs: Runs, name: str, picks: dict[int, Pick], who: str, needs: str) -> None:
        self.name, self.who, is_memory = name, who, needs.endswith("memory")
        counts = [n for n in counts_with(runs, needs) if n > 1][-4 if is_memory else 0 :]  # few ranks: rounds not full
        self.among = ("1", "N") if is_memory else TERMS
        self.points = [(n, b) for n in counts for b in picks]
        self.values = [median(runs, n, picks[b], who) for n, b in self.points]
        self.model = fit(self.points, self.values, self.among)

    def at(self, ranks: float, piece: float = 0.0) -> float:
        """What the model says."""
        return float(np.dot(self.model, terms(ranks, piece)))

    def off(self) -> float:
        """The largest distance of a measured value from the model, of the value."""
        return max(abs(self.at(*point) / value - 1) for point, value in zip(self.points, self.values, strict=True))

    def foretold(self) -> float:
        """What the model of all but the largest number of ranks says of that one, of what it is; the worst."""
        most = max(self.points)[0]
        known = [i for i, (ranks, _) in enumerate(self.points) if ranks < most]
        model = fit([self.points[i] for i in known], [self.values[i] for i in known], self.among)
        hidden = [i for i in range(len(self.points)) if i not in known]
        ratios = [float(np.dot(model, terms(*self.points[i]))) / self.values[i] for i in hidden]
        return max(ratios, key=lambda ratio: abs(np.log(max(ratio, 1e-9))))


def figures(runs: Runs) -> dict[str, Figure]:
    """All that is fitted. Seconds are of CPU; memory is in bytes."""
    rest, found = "model, data, output", {}

    def add(name: str, needs: str, picks: dict[int, Pick], who: str) -> None:
        found[f"{name}, {who}"] = Figure(runs, name, picks, who, needs)

    add("start-up: imports", "marks", {0: start("imports")}, "others")
    add("start-up: MPI, Horovod", "marks", {0: until("joining", "imports")}, "others")
    for who in ("others", "rank 0"):
        add("start-up: " + rest, "marks", {0: until(rest, "joining")}, who)
        add("start-up in all", "marks", {0: start(rest)}, who)
    names = next(iter(runs[max(runs, key=int)]))["ranks"][0]
    for way in WAYS:
        sizes = {int(name.split()[-1]): cpu(name) for name in names if name.startswith(f"{way} round ")}
        for who in ("others", "rank 0"):
            add(f"round: {way}", f"{way} round 0", sizes, who)
    for way in ("horovod", "mpi"):
        add(f"broadcast of 16 MiB: {way}", f"{way} broadcast", {0: cpu(f"{way} broadcast")}, "others")
        add(f"idle second: {way}", f"{way} idle", {0: cpu(f"{way} idle")}, "others")
    for way in ("horovod direct", "horovod alltoall", "mpi alltoall"):  # allgather's is bounded by that of a round
        for who in ("others", "rank 0"):
            add(f"memory: {way}", f"{way} memory", {0: memory(way)}, who)
    return found


def write(runs: Runs, folder: Path) -> None:
    """Leave scale.md and scale.png in a folder."""
    found = figures(runs)
    (folder / "scale.md").write_text("\n".join([*measured_table(runs), *model_table(found), ""]))
    plot(found, folder / "scale.png")


def measured_table(runs: Runs) -> list[str]:
    counts = sorted(map(int, runs))
    lines = ["### Measured", "", "| | " + " | ".join(f"{n}" for n in counts) + " |", "| --- " * (len(counts) + 1) + "|"]

    def line(name: str, cell: Callable[[int], str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cell(n) for n in counts) + " |")

    def figure(pick: Pick, who: str, needs: str = "marks", unit: float = 1.0) -> Callable[[int], str]:
        with_it = counts_with(runs, needs)
        return lambda n: f"{median(runs, n, pick, who) / unit:,.3g}" if n in with_it else ""

    line("launches", lambda n: str(len(runs[str(n)])))
    line("cores that others took", lambda n: f"{statistics.median(run['others'] for run in runs[str(n)]):.1f}")
    line("start-up by the clock, last rank, s", figure(start("model, data, output", by_clock=True), "last"))
    for name in ("imports", "joining", "model, data, output"):
        line(f"CPU s of a rank until the end of: {name}", figure(start(name), "others"))
    for way in WAYS:
        for name, words in ((f"{way} round 0", "empty"), (f"{way} round {MIB}", "1 MiB a rank")):
            line(f"round, {way}, {words}: by the clock, ms", figure(clock(name), "last", name, 1e-3))
            line("the same: CPU of rank 0, ms", figure(cpu(name), "rank 0", name, 1e-3))
            line("the same: CPU of another rank, ms", figure(cpu(name), "others", name, 1e-3))
    for way in ("horovod", "mpi"):
        for what in ("broadcast", "idle"):
            name, words = f"{way} {what}", {"broadcast": "broadcast of 16 MiB", "idle": "an idle second"}[what]
            line(f"{words}, {way}: CPU of a rank, ms", figure(cpu(name), "others", name, 1e-3))
    for way in WIDE:
        for who in ("rank 0", "others"):
            line(f"memory, {way}, 4 MiB chunks: {who}, MB", figure(memory(way), who, f"{way} memory", 1e6))
    return [*lines, ""]


def model_table(found: dict[str, Figure]) -> list[str]:
    lines = ["### Model", "", "| | who | " + " | ".join(TERMS) + " | off by, at most | most ranks, foretold |"]
    lines[-1] += "".join(f" {ranks:,} ranks |" for ranks in BEYOND)
    lines.append("| --- " * (len(TERMS) + 4 + len(BEYOND)) + "|")
    for figure in found.values():
        cells = [figure.name, figure.who, *(f"{value:.2g}" if value else "" for value in figure.model)]
        cells += [f"{figure.off():.0%}", f"{figure.foretold():.2f}"]
        for ranks in BEYOND:
            value = figure.at(ranks, full_piece(ranks) if figure.name.startswith("round") else 0)
            cells.append(f"{value / 1e6:,.0f} MB" if figure.name.startswith("memory") else f"{value:.2g} s")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def full_piece(ranks: float) -> float:
    """What a rank sends in a full round, bytes."""
    return min(PIECE_BYTES, ROUND_BYTES / ranks)


def plot(found: dict[str, Figure], path: Path) -> None:
    """Start-up, rounds and memory, one panel above another; dashed where the model goes on alone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        "start-up: CPU seconds of a rank": ("start-up in all, others", "start-up in all, rank 0"),
        "an empty round with --comm mpi: CPU seconds of rank 0": tuple(f"round: {way}, rank 0" for way in WAYS[2:]),
        "memory of rank 0, MB": ("memory: horovod direct, rank 0", "memory: horovod alltoall, rank 0"),
    }
    figure, axes = pyplot.subplots(len(panels), figsize=(9, 3.6 * len(panels)), squeeze=False)
    for axis, (title, names) in zip(axes[:, 0], panels.items(), strict=True):
        for name, (color, marker) in zip(names, LOOKS, strict=False):
            one, scale = found[name], 1e6 if "memory" in name else 1.0
            measured = [(n, value / scale) for (n, b), value in zip(one.points, one.values, strict=True) if b == 0]
            most = measured[-1][0]
            for first, last, style in ((measured[0][0], most, "-"), (most, BEYOND[-1], "--")):
                counts = np.geomspace(first, last, 60)
                axis.plot(counts, [one.at(n) / scale for n in counts], style, color=color)
            axis.plot(*zip(*measured, strict=True), marker, color=color, label=name.partition(": ")[2] or name)
        axis.set_xscale("log", base=2)
        if title.startswith("start-up"):
            axis.set_ylim(0, 2 * axis.get_ylim()[1])
        else:
            axis.set_yscale("log")
        axis.set_title(title, loc="left")
        axis.set_xlabel("ranks; marks: measured, lines: model, dashed: beyond what was measured")
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
