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
    compile: bool = False,
    share_weights: bool = False,
    stack: bool = False,
    input: dict[str, Any] | None = None,
    prompt: str | None = None,
    system: str | None = None,
    messages: str | None = None,
    columns: Sequence[str] | str = (),
    keep: Sequence[str] | str = (),
    types: Sequence[str] | str = (),
    null: str | None = None,
    data_args: dict[str, Any] | None = None,
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
    metrics: int | str | os.PathLike[str] | None = None,
    verbose: int = 0,
    stall_timeout: int = 900,
    **unknown: Any,
) -> "Report":
    """Run one prediction job with the ranks this process was launched with; every rank calls it alike.

    In a notebook, or without a launcher, it is one rank.

    Args:
        model: function or class that returns an nn.Module or another callable; or a complete model: a file of
            TorchScript, torch.export or ONNX, or a folder of Transformers, sentence-transformers or timm.
        data: the data set: a file (such as .npy, .parquet, .csv, .jsonl, .txt, .h5, .tar), a folder, a pattern such
            as 'part-*.csv', a database or a URL; PATH::NAME for one column or array in it.
        output: the predictions, in the format of the suffix; PATH.partial until complete, records in PATH.run/.
        model_args: arguments of the factory, or options of a model folder: a JSON object.
        weights: state dict or checkpoint: safetensors, or what torch.save writes, or the .index.json of several
            files; rank 0 alone reads it; none: the factory's own values are meant.
        weights_key: entry of the checkpoint with the state dict, keys joined by dots.
        strip_prefix: remove this prefix from the names of tensors; tensors without it do not belong to the model.
        ignore_keys: leave out tensors of the file that the model does not have, by patterns such as loss.*.
        trust_pickle: run code in model and weights files, such as pickles, TorchScript and .pt2: only if you trust
            their author.
        trust_code: run Python code shipped with a Hugging Face model: only if you trust its author.
        dtype: dtype of a module's weights and its inputs; by default unchanged.
        channels_last: use the channels-last memory format for a module and its images.
        compile: compile a module with torch.compile; slower start.
        share_weights: hold a module's weights once per host instead of once per rank; on the CPU.
        stack: stack columns of numbers into one matrix (rows, columns).
        input: constant value of an input: JSON, or the path of a .npy file; may be repeated.
        prompt: text for the model, with columns by name in braces, such as 'Summarize: {text}'.
        system: system message before each text, by the chat template of the model's tokenizer.
        messages: column with the messages of a conversation, a list of objects with role and content, for the chat
            template.
        columns: columns of the data for the model, separated by commas; by default all.
        keep: passthrough columns, kept beside the predictions, such as ids.
        types: types of columns of CSV and JSON lines, such as id=string,x=float32; NAME=list: lists of any length.
        null: read nulls in numbers for the model as nan; by default a row with one is a bad row.
        data_args: arguments of the function that --data names: a JSON object.
        skip: rows to skip at the beginning of the data.
        limit: predict at most this many rows, from --skip on.
        overwrite: replace an existing output, once the new one is complete.
        fresh: forget an unfinished run of this output and start over.
        batch_size: rows of one forward call.
        batch_tokens: for texts and lists: the most tokens of one forward call, padding included.
        batch_cost: function from a batch of rows, as --preprocess gets it, to the cost of each, such as its number
            of atoms.
        batch_budget: the largest sum of the costs of the rows of a batch, as --batch-cost gives them.
        chunk_size: rows collected and recorded together, a multiple of the batch size.
        preprocess: function from a batch of rows (a CPU tensor; a list of them where lengths differ) to the model's
            input.
        truncate: for texts with more tokens than the model takes: truncate them at this side, or refuse them; by
            default as the model's tokenizer does, and prompts are refused. Truncation is counted.
        postprocess: argmax, softmax, topk:K (class indices, best first) or a function from the model's output to a
            tensor.
        stateful: for a model with another answer to the same row at the next call: refuse it, call its method
            reset_states, reset_state or reset before each batch, or keep its answers.
        offload: load the layers of a module that is larger than the memory when they are called: to a GPU from the
            host's memory, or from .safetensors on disk; slow.
        model_parallel: number of ranks that hold one replica of a module together; such groups share the data.
        parallel_plan: function from the module to the plan of its split: styles of
            torch.distributed.tensor.parallel by layer name.
        pipeline_stages: number of pipeline stages, each held by M / P ranks of a group.
        split_points: first layers of the second and later stages; by default for stages of equal bytes.
        micro_batches: with --pipeline-stages P, the parts into which a batch is cut for the stages; by default 4 P.
        schedule: even shares (static), or the next rows for a free rank (dynamic).
        collect: how predictions reach the output: allgather, alltoall (to rank 0), direct (ranks write one file),
            shards (ranks write a folder).
        comm: library that carries messages between ranks: Horovod, or mpi4py where Horovod is not installed.
        device: where the model runs; auto: a GPU of this rank where PyTorch sees one, else the CPU.
        threads: CPU threads per rank; by default a fair share of the host.
        on_error: for a row that fails: stop, or set it aside (quarantine) and continue.
        on_nonfinite: for a row with NaN or infinity in its predictions: keep and count it, or set it aside
            (quarantine).
        max_bad: stop when more rows than this are set aside.
        time_limit: stop early enough to end this long after the start; finished chunks are kept.
        baseline: measure rank 0 alone on a few chunks first, for the efficiency in the report; takes 5 seconds.
        trace: write PATH.run/trace.json, what every rank did and when, for Perfetto or chrome://tracing.
        metrics: serve the progress to Prometheus at this port of rank 0's host, or write it to a file for its textfile
            collector.
        verbose: -v: what every rank does; -vv: every chunk, and what Horovod and MPI say.
        stall_timeout: end the job when a batch or a read takes longer, or a rank is silent for as long.

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
    options |= {"model_args": model_args or {}, "data_args": data_args or {}, "input": input or {}}
    from runner.host.cpus import prevent_binding  # what is imported when it is used makes `import runner` quick

    prevent_binding()
    from runner.job.run import predict as run_job  # PyTorch and MPI take their time to import

    return run_job(**options)
