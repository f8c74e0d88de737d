"""`python -m runner plan`: what a job will take and what could go wrong, before an allocation is spent on it.

Without ranks and without MPI: on a login node. It takes the runner's own parts as far as a job's first chunks.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import torch

from runner.checks import check_positive, parse_memory
from runner.comm.single import SingleComm
from runner.config import Config
from runner.errors import InputError, describe
from runner.file_recorder import FileRecorder
from runner.fingerprint import fingerprint_of_options
from runner.inputs import open_data
from runner.ledger import Ledger, run_folder
from runner.plan.estimate import Pace, find_work, times
from runner.plan.risks import Layout, Situation, memory_of
from runner.plan.text import render_plan
from runner.plan.trial import Trial, lacks_gpu, try_out
from runner.rows import RowType, in_words
from runner.sinks import check_space, find_writer
from runner.sources import Source
from runner.urls import is_url
from runner.world import Launch, fair_threads, requested_threads, usable_cpus


def plan(config: Config, given: dict[str, Any]) -> str:
    """The plan of a job, in words.

    Args:
        config: the job.
        given: ranks, ranks_per_node, cpus_per_rank, memory, report; none of them is needed.

    Raises:
        RunnerError: what the job would end with before its first chunk, or an option is wrong.
    """
    layout = _layout(config, given)
    former = _Former(given["report"]) if "report" in given else None
    output = _local_name(str(config.output))
    source = open_data(config, SingleComm(Launch("none", 0, 1)))
    known = _look_at_output(config, source, output)
    trial = try_out(config, source, layout.threads, measure=former is None and not lacks_gpu(config))
    is_spooled = find_writer(str(config.output), trial.row_type) is not None
    committed = _committed(config, output, known, trial)
    check_space(f"{output}.partial", trial.output_bytes if isinstance(trial.row_type, RowType) else 0)

    work = find_work(trial.grid, committed, trial.output_bytes, config.collect, config.schedule, str(config.output))
    pace = former.pace if former else _pace(trial)
    rank_0, other = former.memory if former else (trial.peak_bytes, trial.held_bytes)
    shared = trial.model_bytes if config.share_weights else 0
    has_mpi = former is not None and former.world_size > 1
    situation = Situation(
        config=config,
        layout=layout,
        grid=trial.grid,
        work=work,
        memory=memory_of(config, layout, work, trial.grid, rank_0, other, shared, has_mpi),
        times=times(work, pace, layout.ranks) if pace else None,
        free_bytes=shutil.disk_usage(Path(output).parent).free,
        is_spooled=is_spooled,
        cpus_here=len(usable_cpus()),
    )
    return render_plan(situation, source, trial, pace, len(committed), given.get("report"))


def _layout(config: Config, given: dict[str, Any]) -> Layout:
    for name in ("ranks", "ranks_per_node", "cpus_per_rank"):
        if name in given:
            check_positive(f"--{name.replace('_', '-')}", given[name])
    cpus, ranks = usable_cpus(), given.get("ranks", 1)
    together = min(ranks, given.get("ranks_per_node", len(cpus)))
    fair = fair_threads(cpus, [cpus] * together)
    threads = config.threads or given.get("cpus_per_rank") or requested_threads() or fair
    ranks_per_node = given.get("ranks_per_node", max(1, len(cpus) // threads))
    memory = parse_memory(given["memory"]) if "memory" in given else psutil.virtual_memory().total
    return Layout(ranks, ranks_per_node, threads, memory)


def _local_name(output: str) -> str:
    """Where rank 0 makes the output."""
    return str(Path(output.rpartition("/")[2] if is_url(output) else output))


def _look_at_output(config: Config, source: Source, output: str) -> dict[str, Any]:
    """What is known of the fingerprint, after a look at what is there, as the job has it.

    The data are looked at as closely only where there is a run to compare them with.
    """
    known = fingerprint_of_options(config, source) if Ledger(run_folder(output)).fingerprint else {}
    if config.device == "auto" and not torch.cuda.is_available():
        known.pop("device", None)  # the job's nodes may have what this one lacks
    with FileRecorder(config, str(config.output)) as recorder:
        recorder.prepare(known)
    return known


def _committed(config: Config, output: str, known: dict[str, Any], trial: Trial) -> frozenset[int]:
    """The chunks of an unfinished run that the job would go on with."""
    if config.fresh or not Path(f"{output}.partial").exists():
        return frozenset()
    ledger = Ledger(run_folder(output))
    row_type = in_words(trial.row_type)
    ledger.check(known | {"chunk_size": trial.grid.chunk_size, "weights": trial.weights, "row_type": row_type})
    return frozenset(ledger.commits)


def _pace(trial: Trial) -> Pace | None:
    if trial.rows_per_second is None:
        return None
    return Pace(trial.rows_per_second, trial.startup_seconds, trial.model_bytes, is_of_a_job=False)


class _Former:
    """The report of a former run: what it says of one rank.

    Raises:
        InputError: it is none, or of a job that has computed nothing.
    """

    def __init__(self, path: str) -> None:
        try:
            found = json.loads(Path(path).read_text())
            self.world_size: int = found["world_size"]
            peaks: list[int] = found["peak_rss_bytes"]
            self.memory = peaks[0], max(peaks[1:] or peaks)
            rows_per_second = found["rows_per_second"] / self.world_size
            self.pace = Pace(rows_per_second, found["startup_seconds"], 0, is_of_a_job=self.world_size > 1)
        except OSError as error:
            raise InputError(f"--report {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(f"--report {path} is not the report.json of a run: {describe(error)}") from error
        if not rows_per_second > 0:
            raise InputError(f"--report {path} is of a job that has computed no rows; take another")
