"""The names and colors of the phases of a job, and what to do about the time that it loses."""

from typing import NamedTuple


class Phase(NamedTuple):
    """How a page shows one phase."""

    name: str
    color: str
    meaning: str = ""


# What repeats with every batch has the strong colors of Okabe and Ito, which people with any kind of color vision tell
# apart; what comes once, at the start, has pale ones, and comes in the order of the legend.
PHASES = {
    "launch": Phase("launch", "#8d949c", "from the start of the process until Python has imported what it needs"),
    "connect": Phase("connect", "#c5b3e6", "until the ranks have found each other"),
    "data": Phase("open data", "#8a7a5c", "opening the data set"),
    "model": Phase("load model", "#c9b48a", "building the model, reading its weights, sending them to all ranks"),
    "checks": Phase("checks", "#6f8f86", "the first row, and whether all ranks give the same answers"),
    "output": Phase("open output", "#a9cfc4", "opening the output, checking what earlier jobs have left"),
    "baseline": Phase("baseline", "#8c6bb1", "rank 0 computes alone, for --baseline"),
    "forward": Phase("forward", "#0072b2", "the model, and bringing its predictions to the CPU"),
    "data_wait": Phase("wait for rows", "#e69f00", "the next rows are not read yet"),
    "backpressure": Phase("wait for collect", "#d55e00", "what has been computed has not been collected yet"),
    "sync_wait": Phase("wait for ranks", "#cc79a7", "its share is done, and other ranks still compute"),
    "finish": Phase("finish", "#009e73", "rank 0 makes the output whole"),
    "read": Phase("read", "#56b4e9", "reading and preprocessing rows, beside the forward calls"),
    "collect": Phase("collect", "#b58900", "rounds that carry predictions, beside the forward calls"),
    "write": Phase("write", "#7fb069", "writing and recording predictions, inside of collect"),
}
FORWARD, REST = PHASES["forward"].color, "#68737d"
EXCHANGE = Phase("exchange and waiting", "#f0e442")  # inside of forward, where ranks hold the model together


# What the parts of the wall time are, and what to do about those that are lost.
LOSSES = {
    "ideal": ("forward calls alone, evenly shared", ""),
    "start-up": ("from the start of the processes to the first batch",
                 "Give one job more rows, so that it starts less often."),
    "baseline": ("rank 0 computing alone", "Leave out --baseline: its answer is now known."),
    "slower together": ("forward calls that take longer while other ranks compute, too",
                        "The ranks of a host share its memory, caches and cores: try fewer ranks a host with more "
                        "--threads each, and see with hvd-runner doctor whether ranks share cores."),
    "reading": ("waiting for rows",
                "Rows come too slowly: copy the data to a faster or nearer disk, take a binary format, a cheaper "
                "--preprocess, or give each rank more cores."),
    "imbalance": ("ranks that are done waiting for the slowest",
                  "Let whoever is free take the next rows: --schedule dynamic, with a smaller --chunk-size if chunks "
                  "are few."),
    "collect": ("waiting until predictions are collected",
                "Send less: --collect alltoall brings predictions to rank 0 alone, direct or shards send none; "
                "--postprocess keeps only what you need of them."),
    "finish": ("making the output whole",
               "An .npy needs no second pass over the rows; with --collect shards each rank writes its own files."),
    "wall time": ("the sum of all above", ""),
}  # fmt: skip

# What to do about a start-up of which most is this.
START_UP = {
    "launch": "Python imports for long: keep the environment on a disk near the hosts, and give one job more rows.",
    "connect": "The ranks find each other slowly: hvd-runner doctor looks at the network; give a job more rows.",
    "data": "Opening the data set is slow: one large file instead of many small ones, or another format.",
    "model": "The model loads slowly: keep the weights on a faster disk, as .safetensors.",
    "checks": "The first batch is slow: --compile and large models take their time there; give a job more rows.",
    "output": "Checking what earlier jobs have left takes long; fewer, longer jobs need it less often.",
}


def shown(phase: str) -> Phase:
    """Return how to show a phase; one that a later version may have named has its own name."""
    return PHASES.get(phase) or Phase(phase, REST)
