"""The text of a plan whose model is too large to be loaded here."""

from runner.commands.plan.estimate import Pace
from runner.commands.plan.fitting import Fitting
from runner.commands.plan.risks import find_risks_of_nodes
from runner.commands.plan.text import describe_batches, describe_data, describe_memory, describe_ranks, describe_speed
from runner.commands.plan.words import in_columns, in_parts
from runner.config.options import Config
from runner.core.text import byte_size, duration
from runner.sources import Source

_UNKNOWN = "not known. Run the job with --limit on its nodes, and give --report OUTPUT.run/report.json"


def render_unloaded(
    config: Config, source: Source, fitting: Fitting, free_bytes: int, pace: Pace | None, report: str | None, cpus: int
) -> str:
    """Return the plan as text, without results of a trial.

    Args:
        config, source, fitting: configuration, data and model sizes of the job.
        free_bytes: bytes that the model may take here.
        pace: speed in a previous job's report; None where there is none.
        report: path of that report.
        cpus: number of CPUs of this node.
    """
    layout = fitting.layout
    memory = fitting.memory()
    facts = {
        "data": describe_data(config, source),
        "batches": describe_batches(source.num_rows, config.batch_size),
        "ranks": describe_ranks(layout),
        "model": fitting.model(),
        "loaded": f"not here: {byte_size(free_bytes)} are free for it. Its outputs are not known",
        "memory": f"{describe_memory(layout, memory)}; without the memory for collecting",
        "speed": f"{describe_speed(pace)}, by {report}" if pace else _UNKNOWN,
        "time": _time(source.num_rows, layout.replicas, pace) if pace else "",
    }
    risks = [f"! {risk}" for risk in find_risks_of_nodes(config, layout, memory, cpus)]
    return in_parts([in_columns(facts), *fitting.lines(), risks])


def _time(rows: int, replicas: int, pace: Pace) -> str:
    compute = rows / (replicas * pace.rows_per_second)
    start = pace.startup_seconds
    return (
        f"{duration(start + compute)}: {duration(start)} start-up, {duration(compute)} of batches; without the output"
    )
