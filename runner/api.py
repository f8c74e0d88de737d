"""The Python API: one function for a job, with the options of the command line as keywords."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.telemetry.report import Report


def predict(
    *,
    model: str | os.PathLike[str] | Callable[..., Any],
    data: Any,
    output: str | os.PathLike[str] | None = None,
    model_args: dict[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    weights_key: str | None = None,
    strip_prefix: str | None = None,
    ignore_keys: Sequence[str] | str = (),
    trust_pickle: bool = False,
    trust_code: bool = False,
    dtype: str | None = None,
    channels_last: bool = False,
    quantize: str | None = None,
    compile: bool = False,
    share_weights: bool = False,
    stack: bool = False,
    input: dict[str, Any] | None = None,
    columns: Sequence[str] | str = (),
    keep: Sequence[str] | str = (),
    skip: int = 0,
    limit: int | None = None,
    overwrite: bool = False,
    fresh: bool = False,
    batch_size: int = 32,
    batch_tokens: int | None = None,
    batch_cost: str | Callable[..., Any] | None = None,
    batch_budget: int | None = None,
    chunk_size: int | None = None,
    preprocess: str | Callable[..., Any] | None = None,
    truncate: str | None = None,
    postprocess: str | Callable[..., Any] | None = None,
    stateful: str = "refuse",
    offload: str | None = None,
    model_parallel: int = 1,
    parallel_plan: str | Callable[..., Any] | None = None,
    pipeline_stages: int = 1,
    split_points: Sequence[str] | str = (),
    micro_batches: int | None = None,
    schedule: str = "static",
    collect: str = "allgather",
    comm: str = "horovod",
    device: str = "auto",
    threads: int | None = None,
    on_error: str = "stop",
    on_nonfinite: str = "keep",
    max_bad: int | None = None,
    time_limit: int | None = None,
    baseline: bool = False,
    trace: bool = False,
    metrics_port: int | None = None,
    metrics_file: str | None = None,
    verbose: int = 0,
    stall_timeout: int = 900,
    **unknown: Any,
) -> "Report":
    """Run one prediction job with the ranks this process was launched with; every rank calls it alike.

    In a notebook, or without a launcher, it is one rank.

    Args:
        model: function or class that returns an nn.Module or another callable; or a whole model: TorchScript (.pt),
            torch.export (.pt2), ONNX (.onnx), under any suffix, or a Hugging Face folder.
        data: the data set: .npy, its first axis the rows, or .parquet, of one column or PATH::COLUMN.
        output: the predictions, in the format of its suffix; PATH.partial until whole, records in PATH.run/.
        model_args: keyword arguments of the factory, a JSON object.
        weights: state dict or checkpoint: safetensors, or what torch.save writes, or the .index.json of several;
            rank 0 alone reads it.
        weights_key: entry of the checkpoint that is the state dict, keys joined by dots.
        strip_prefix: take this from the beginning of the names of tensors; others have no place in the model.
        ignore_keys: leave out tensors of the file that the model does not have, by patterns such as loss.*.
        trust_pickle: let pickled code in model and weights run: only where you trust whoever made them.
        trust_code: let Python code in a Hugging Face folder run: only where you trust whoever made it.
        dtype: of a module's weights and its inputs; by default as they are.
        channels_last: lay out a module and its images channel by channel last.
        quantize: compute linear and recurrent layers with whole numbers of 8 bits; on the CPU.
        compile: let torch.compile make a module faster; takes its time at the start.
        share_weights: keep a module's weights once a host, for all of its ranks, instead of once a rank; on the
            CPU.
        stack: make one matrix (rows, columns) of columns of numbers.
        input: a value for an input, the same in every call: JSON, or the path of a .npy file; may be repeated.
        columns: which columns of the data, by commas; by default all.
        keep: columns of the data to keep beside the predictions.
        skip: rows of the data to pass over at its beginning.
        limit: the most rows of the data to predict, after those.
        overwrite: replace an output that is there already, once the new one is whole.
        fresh: forget an unfinished run of this output and start over.
        batch_size: rows of one forward call.
        batch_tokens: for texts and lists: the most tokens of one forward call, padding included.
        batch_cost: function from a batch of rows, as --preprocess gets it, to what each costs, such as atoms: a
            number a row.
        batch_budget: the most that the rows of one forward call cost together.
        chunk_size: rows that are handed over and recorded together, a multiple of the batch size.
        preprocess: function from a batch of rows (a CPU tensor; a list of them where lengths differ) to the model's
            input.
        truncate: for texts with more tokens than the model takes: cut them at this side, or refuse them; by default
            as the model's tokenizer does. What is cut is counted.
        postprocess: argmax, softmax, topk:K (class indices, best first) or a function from the model's output to a
            tensor.
        stateful: for a model that gives another answer when it is called again: refuse it, call its method
            reset_states, reset_state or reset before each batch, or keep its answers as they are.
        offload: let the layers of a module that is larger than the memory come when they are called: to a GPU from
            the host's memory, or from .safetensors on disk; slow.
        model_parallel: ranks that hold one replica of a module together, each a part of it; the others share the
            data.
        parallel_plan: function from the module to how its layers are split: styles of
            torch.distributed.tensor.parallel by name.
        pipeline_stages: stages of so many layers after layers, each held by M / P of those ranks.
        split_points: the layers at which a stage begins; by default such that stages have equal bytes.
        micro_batches: parts of a batch that follow one another through the stages; by default 4 P.
        schedule: who computes what: even shares, or whoever is free takes the next rows.
        collect: how predictions come to the output: through all ranks, to rank 0 alone, or written by each rank,
            into the one file or into a folder of several.
        comm: what carries them: Horovod, or MPI alone where it is missing.
        device: auto takes a GPU where there is one.
        threads: CPU threads per rank; by default a fair share of the host.
        on_error: for a row that fails: stop, or set it aside (quarantine) and go on.
        on_nonfinite: for a row with NaN or infinity in its predictions: keep and count it.
        max_bad: stop after all when more rows than this are set aside.
        time_limit: stop in time to have ended this long after the start; what is done is kept.
        baseline: let rank 0 compute a few chunks alone first, for the efficiency in the report; takes 5 seconds.
        trace: write PATH.run/trace.json, what every rank did and when, for Perfetto or chrome://tracing.
        metrics_port: serve the progress to Prometheus from rank 0.
        metrics_file: write it for Prometheus' textfile collector.
        verbose: -v: what every rank does; -vv: every chunk, and what Horovod and MPI say.
        stall_timeout: end the job when one thing (a batch, a read) takes a rank longer, or a rank is silent.

    Returns:
        The report, on every rank. Where `output` is None, `report.predictions` on rank 0 is the array (or, of several
        outputs, arrays by name). Where its `status` is "stopped", a signal or the time limit has ended the job before
        the output was complete; the same call resumes it.

    Raises:
        RunnerError: on every rank alike; see `runner.core.errors`. An error on one rank alone ends the job, with its
            exit code and message.
    """
    options = dict(locals())
    options |= options.pop("unknown")  # for an error that names the nearest option
    options |= {"model_args": model_args or {}, "input": input or {}}
    from runner.job.run import predict as run_job  # PyTorch and MPI take their time to import

    return run_job(**options)
