"""What a job is asked to do: one frozen dataclass, checked on construction. Pure; opens nothing."""

import dataclasses
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.checks import check_choice, check_positive, check_postprocess, check_suffix, multiples_near
from runner.constants import check_constants
from runner.errors import UsageError
from runner.imports import name_of, split_spec

OUTPUT_SUFFIXES = (".npy", ".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".h5", ".hdf5", ".zarr", ".png/", ".npy/")
MODEL_SUFFIXES = (".pt", ".pt2", ".onnx")
DTYPES = ("float32", "bfloat16", "float16")
QUANTIZE = ("int8",)
OFFLOAD = ("memory", "disk")
DEVICES = ("auto", "cpu", "cuda")
ON_ERROR = ("stop", "quarantine")
SCHEDULES = ("static", "dynamic")
COLLECT = ("allgather", "alltoall", "direct", "shards")
COMM = ("horovod", "mpi")
ON_NONFINITE = ("keep", "quarantine")
STATEFUL = ("refuse", "reset", "keep")
TRUNCATE = ("left", "right", "refuse")


_LISTS = ("ignore_keys", "columns", "keep", "split_points")  # options of several values

# in a URL; records are for all to read
_PASSWORD, _SECRET = re.compile(r"(://[^:/@]*):[^@/]*@"), re.compile(r"([?&](?:password|passwd)=)[^&]*")


def _option(default: Any, group: str, help: str, metavar: str = "") -> Any:
    """A field that is also a command-line option and a key of the TOML file."""
    return dataclasses.field(default=default, metadata={"group": group, "help": help, "metavar": metavar})


@dataclass(frozen=True, kw_only=True)
class Config:
    """One prediction job.

    From the command line every value is text or a number. From Python, `model` may also be a function that
    returns an `nn.Module`, `data` an array or tensor, and `preprocess` and `postprocess` functions.

    Raises:
        UsageError: a value is not allowed; the message says which are.
    """

    model: str | Callable[..., Any] = _option(
        "",
        "model",
        "function or class that returns an nn.Module or another callable; or a complete model: a file of TorchScript, "
        "torch.export or ONNX, or a folder of Transformers, sentence-transformers or timm",
        "MODULE:FACTORY|PATH",
    )
    model_args: dict[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={
            "group": "model",
            "help": "arguments of the factory, or options of a model folder: a JSON object",
            "metavar": "JSON",
        },
    )
    weights: str | None = _option(
        None,
        "model",
        "state dict or checkpoint: safetensors, or what torch.save writes, or the .index.json of several files; rank 0 "
        "alone reads it",
        "PATH",
    )
    weights_key: str | None = _option(
        None, "model", "entry of the checkpoint with the state dict, keys joined by dots", "KEY"
    )
    strip_prefix: str | None = _option(
        None,
        "model",
        "remove this prefix from the names of tensors; tensors without it do not belong to the model",
        "PREFIX",
    )
    ignore_keys: tuple[str, ...] = _option(
        (),
        "model",
        "leave out tensors of the file that the model does not have, by patterns such as loss.*",
        "NAME,...",
    )
    trust_pickle: bool = _option(
        False, "model", "run pickled code in model and weights files: only if you trust their author"
    )
    trust_code: bool = _option(
        False, "model", "run Python code shipped with a Hugging Face model: only if you trust its author"
    )
    data: Any = _option(
        "",
        "data",
        "the data set: a file (such as .npy, .parquet, .csv, .jsonl, .txt, .h5, .tar), a folder, a pattern such as "
        "'part-*.csv', a database or a URL; PATH::NAME for one column or array in it",
        "PATH",
    )
    columns: tuple[str, ...] = _option(
        (), "data", "columns of the data for the model, separated by commas; by default all", "NAME,..."
    )
    keep: tuple[str, ...] = _option(
        (), "data", "passthrough columns, kept beside the predictions, such as ids", "NAME,..."
    )
    skip: int = _option(0, "data", "rows to skip at the beginning of the data", "ROWS")
    limit: int | None = _option(None, "data", "the most rows to predict, after those", "ROWS")
    output: str | None = _option(
        None,
        "data",
        "the predictions, in the format of the suffix; PATH.partial until complete, records in PATH.run/",
        "PATH",
    )
    overwrite: bool = _option(False, "data", "replace an existing output, once the new one is complete")
    fresh: bool = _option(False, "data", "forget an unfinished run of this output and start over")
    batch_size: int = _option(32, "work", "rows of one forward call", "ROWS")
    batch_tokens: int | None = _option(
        None, "work", "for texts and lists: the most tokens of one forward call, padding included", "TOKENS"
    )
    batch_cost: str | Callable[..., Any] | None = _option(
        None,
        "work",
        "function from a batch of rows, as --preprocess gets it, to the cost of each, such as its number of atoms",
        "MODULE:FUNCTION",
    )
    batch_budget: int | None = _option(None, "work", "the largest total cost of one forward call", "N")
    chunk_size: int | None = _option(
        None, "work", "rows collected and recorded together, a multiple of the batch size", "ROWS"
    )
    schedule: str = _option(
        "static", "work", "even shares (static), or the next rows for a free rank (dynamic)", "static|dynamic"
    )
    collect: str = _option(
        "allgather",
        "work",
        "how predictions reach the output: allgather, alltoall (to rank 0), direct (ranks write one file), shards "
        "(ranks write a folder)",
        "allgather|alltoall|direct|shards",
    )
    comm: str = _option(
        "horovod", "work", "what carries messages: Horovod, or MPI alone where Horovod is missing", "horovod|mpi"
    )
    preprocess: str | Callable[..., Any] | None = _option(
        None,
        "work",
        "function from a batch of rows (a CPU tensor; a list of them where lengths differ) to the model's input",
        "MODULE:FUNCTION",
    )
    truncate: str | None = _option(
        None,
        "work",
        "for texts with more tokens than the model takes: truncate them at this side, or refuse them; by default as "
        "the model's tokenizer does. Truncation is counted",
        "left|right|refuse",
    )
    postprocess: str | Callable[..., Any] | None = _option(
        None,
        "work",
        "argmax, softmax, topk:K (class indices, best first) or a function from the model's output to a tensor",
        "NAME|MODULE:FUNCTION",
    )
    device: str = _option("auto", "work", "auto: a GPU where there is one", "auto|cpu|cuda")
    dtype: str | None = _option(
        None, "model", "dtype of a module's weights and its inputs; by default unchanged", "float32|bfloat16|float16"
    )
    channels_last: bool = _option(False, "model", "use the channels-last memory format for a module and its images")
    quantize: str | None = _option(
        None, "model", "compute linear and recurrent layers with 8-bit integers; on the CPU", "int8"
    )
    share_weights: bool = _option(
        False, "model", "hold a module's weights once per host instead of once per rank; on the CPU"
    )
    offload: str | None = _option(
        None,
        "model",
        "load the layers of a module that is larger than the memory when they are called: to a GPU from the host's "
        "memory, or from .safetensors on disk; slow",
        "memory|disk",
    )
    model_parallel: int = _option(
        1,
        "model",
        "number of ranks that hold one replica of a module together; such groups share the data",
        "M",
    )
    parallel_plan: str | Callable[..., Any] | None = _option(
        None,
        "model",
        "function from the module to the plan of its split: styles of torch.distributed.tensor.parallel by layer name",
        "MODULE:FUNCTION",
    )
    pipeline_stages: int = _option(1, "model", "number of pipeline stages, each held by M / P ranks of a group", "P")
    split_points: tuple[str, ...] = _option(
        (), "model", "first layers of the second and later stages; by default for stages of equal bytes", "NAME,..."
    )
    micro_batches: int | None = _option(
        None, "model", "micro-batches that a batch is cut into for the stages; by default 4 P", "N"
    )
    stack: bool = _option(False, "model", "stack columns of numbers into one matrix (rows, columns)")
    input: dict[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={
            "group": "model",
            "help": "constant value of an input: JSON, or the path of a .npy file; may be repeated",
            "metavar": "NAME=VALUE",
        },
    )
    compile: bool = _option(False, "model", "compile a module with torch.compile; slower start")
    threads: int | None = _option(None, "work", "CPU threads per rank; by default a fair share of the host", "N")
    on_error: str = _option(
        "stop", "work", "for a row that fails: stop, or set it aside (quarantine) and continue", "stop|quarantine"
    )
    on_nonfinite: str = _option(
        "keep", "work", "for a row with NaN or infinity in its predictions: keep and count it", "keep|quarantine"
    )
    stateful: str = _option(
        "refuse",
        "work",
        "for a model with another answer to the same row at the next call: refuse it, call its method reset_states, "
        "reset_state or reset before each batch, or keep its answers",
        "refuse|reset|keep",
    )
    max_bad: int | None = _option(None, "work", "stop when more rows than this are set aside", "ROWS")
    time_limit: int | None = _option(
        None, "work", "stop early enough to end this long after the start; finished chunks are kept", "SECONDS"
    )
    canary: bool = _option(False, "work", "compare the ranks' answers to the same rows at the end, too")
    baseline: bool = _option(
        False, "work", "measure rank 0 alone on a few chunks first, for the efficiency in the report; takes 5 seconds"
    )
    trace: bool = _option(
        False, "work", "write PATH.run/trace.json, what every rank did and when, for Perfetto or chrome://tracing"
    )
    metrics_port: int | None = _option(None, "work", "serve the progress to Prometheus from rank 0", "PORT")
    metrics_file: str | None = _option(
        None, "work", "write the progress for Prometheus' textfile collector", "PATH.prom"
    )
    verbose: int = _option(0, "work", "-v: what every rank does; -vv: every chunk, and what Horovod and MPI say")
    stall_timeout: int = _option(
        900, "work", "end the job when a batch or a read takes longer, or a rank is silent for as long", "SECONDS"
    )

    def __post_init__(self) -> None:
        for name in ("model", "data"):
            if isinstance(value := getattr(self, name), str) and not value:
                raise UsageError(f"--{name} is missing")
        for name in ("model", "preprocess", "postprocess", "batch_cost"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str) and not callable(value):
                raise UsageError(f"--{name.replace('_', '-')} must be a name or a function, not {value!r}")
        for field in dataclasses.fields(self):
            if field.type is bool and not isinstance(getattr(self, field.name), bool):
                option = field.name.replace("_", "-")
                raise UsageError(f"--{option} must be true or false, not {getattr(self, field.name)!r}")
        if isinstance(self.model, str) and is_path(self.model):
            if self.weights:
                raise UsageError(f"--weights belongs to a factory; {self.model} is a whole model")
        elif isinstance(self.model, str):
            split_spec(self.model, "--model")
        self._check_weights()
        if not isinstance(self.model_args, dict) or not all(isinstance(key, str) for key in self.model_args):
            raise UsageError(f"--model-args must be a JSON object, such as '{{\"n\": 64}}', not {self.model_args!r}")
        check_constants(self.input)
        for option, names in (("columns", self.columns), ("keep", self.keep)):
            if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
                raise UsageError(f"--{option} must be names, separated by commas, not {names!r}")
        check_suffix("--output", self.output, OUTPUT_SUFFIXES)
        if self.output is not None and self.collect == "direct" and not self.output.endswith(".npy"):
            raise UsageError(f"--collect direct writes .npy alone; --output {self.output} wants another way")
        is_one_file = self.collect not in ("direct", "shards") and not str(self.output).endswith((".zarr", "/"))
        if self.output is not None and "://" in self.output and not is_one_file:
            raise UsageError(f"--output {self.output}: what is copied to a URL is one file, which rank 0 writes")
        if self.output is not None and self.collect == "shards" and self.output.endswith((".zarr", "/")):
            raise UsageError(f"--collect shards does not write {self.output}; choose .npy or .parquet")
        self._check_groups()
        check_positive("--batch-size", self.batch_size)
        self._check_budget()
        if self.chunk_size is not None:
            check_positive("--chunk-size", self.chunk_size)
            if self.chunk_size % self.batch_size:
                raise UsageError(
                    f"--chunk-size {self.chunk_size} is not a multiple of --batch-size {self.batch_size}; "
                    f"near it are {multiples_near(self.chunk_size, self.batch_size)}"
                )
        if self.verbose not in range(3):
            raise UsageError(f"--verbose must be 0, 1 or 2, not {self.verbose!r}")
        for name in ("threads", "time_limit", "stall_timeout", "metrics_port"):
            if getattr(self, name) is not None:
                check_positive(f"--{name.replace('_', '-')}", getattr(self, name))
        check_choice("--schedule", self.schedule, SCHEDULES)
        check_choice("--collect", self.collect, COLLECT)
        check_choice("--comm", self.comm, COMM)
        if self.collect in ("direct", "shards") and self.output is None:
            raise UsageError(f"--collect {self.collect} needs an --output")
        check_choice("--on-error", self.on_error, ON_ERROR)
        check_choice("--on-nonfinite", self.on_nonfinite, ON_NONFINITE)
        check_choice("--stateful", self.stateful, STATEFUL)
        if self.stateful == "reset" and self.model_parallel > 1:
            raise UsageError("--stateful reset and --model-parallel do not go together")
        for name in ("max_bad", "skip", "limit"):
            value, option = getattr(self, name), name.replace("_", "-")
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise UsageError(f"--{option} must be a whole number of 0 or more, not {value!r}")
        check_choice("--device", self.device, DEVICES)
        if self.dtype is not None:
            check_choice("--dtype", self.dtype, DTYPES)
        if self.truncate is not None:
            check_choice("--truncate", self.truncate, TRUNCATE)
        if self.quantize is not None:
            check_choice("--quantize", self.quantize, QUANTIZE)
            for name in ("dtype", "share_weights", "compile"):
                if getattr(self, name):
                    raise UsageError(f"--quantize and --{name.replace('_', '-')} do not go together")
        if self.offload is not None:
            self._check_offload()
        if isinstance(self.preprocess, str):
            split_spec(self.preprocess, "--preprocess")
        if isinstance(self.postprocess, str):
            check_postprocess(self.postprocess)

    def _check_weights(self) -> None:
        if self.weights is not None and not isinstance(self.weights, str):
            raise UsageError(f"--weights must be a path, not {self.weights!r}")
        for name in ("weights_key", "strip_prefix"):
            value, option = getattr(self, name), name.replace("_", "-")
            if value is not None and (not isinstance(value, str) or not value):
                raise UsageError(f"--{option} must be text, not {value!r}")
        if not isinstance(self.ignore_keys, tuple) or not all(isinstance(p, str) and p for p in self.ignore_keys):
            raise UsageError(f"--ignore-keys must be patterns, separated by commas, not {self.ignore_keys!r}")
        for name in ("weights_key", "strip_prefix", "ignore_keys"):
            if getattr(self, name) and self.weights is None:
                raise UsageError(f"--{name.replace('_', '-')} says how --weights is read, which is missing")

    def _check_groups(self) -> None:
        size, stages = self.model_parallel, self.pipeline_stages
        check_positive("--model-parallel", size)
        check_positive("--pipeline-stages", stages)
        if size % stages:
            raise UsageError(
                f"--pipeline-stages {stages} does not divide --model-parallel {size}: each stage is held by as many "
                "ranks of a group"
            )
        if not isinstance(self.split_points, tuple) or not all(isinstance(name, str) for name in self.split_points):
            raise UsageError(f"--split-points must be names of layers, separated by commas, not {self.split_points!r}")
        if self.split_points and len(self.split_points) != stages - 1:
            raise UsageError(
                f"--split-points names the first layers of {len(self.split_points) + 1} stages, the first one's left "
                f"out; --pipeline-stages says {stages}"
            )
        if self.micro_batches is not None:
            check_positive("--micro-batches", self.micro_batches)
            if stages == 1:
                raise UsageError("--micro-batches goes with --pipeline-stages")

    def _check_budget(self) -> None:
        if (self.batch_cost is None) != (self.batch_budget is None):
            raise UsageError("--batch-cost, what a row costs, and --batch-budget, what a batch may, go together")
        if self.batch_cost is not None and self.batch_tokens is not None:
            raise UsageError("--batch-cost and --batch-tokens do not go together: each says how large a batch may be")
        for name in ("batch_tokens", "batch_budget"):
            if getattr(self, name) is not None:
                check_positive(f"--{name.replace('_', '-')}", getattr(self, name))
        if isinstance(self.batch_cost, str):
            split_spec(self.batch_cost, "--batch-cost")

    def _check_offload(self) -> None:
        check_choice("--offload", self.offload, OFFLOAD)
        if self.model_parallel != 1:
            raise UsageError("--offload and --model-parallel do not go together: each is a way to hold a large model")
        for name in ("quantize", "compile", *["share_weights"] * (self.offload == "disk")):
            if getattr(self, name):
                raise UsageError(f"--offload {self.offload} and --{name.replace('_', '-')} do not go together")
        is_factory = not isinstance(self.model, str) or not is_path(self.model)
        if self.offload == "disk" and is_factory and self.weights is None:
            raise UsageError("--offload disk reads the layers from --weights PATH.safetensors, which is missing")

    def resolved(self) -> dict[str, Any]:
        """The options as plain values, without those that are not set: what `config.toml` holds."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["data"] = self.data if isinstance(self.data, str) else name_of(self.data)
        for name in ("model", "preprocess", "postprocess", "parallel_plan", "batch_cost"):
            if values[name] is not None:
                values[name] = name_of(values[name])
        if isinstance(self.data, list | tuple) and all(isinstance(item, str | Path) for item in self.data):
            values["data"] = [str(item) for item in self.data]
        if isinstance(self.data, str):
            values["data"] = hide_secrets(self.data)
        values["input"] = {
            name: v if isinstance(v, str | int | float | list) else str(v) for name, v in self.input.items()
        }
        values |= {name: list(getattr(self, name)) or None for name in _LISTS}
        return {name.replace("_", "-"): value for name, value in values.items() if value is not None}


def hide_secrets(text: str) -> str:
    """The same without the passwords of URLs."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def is_path(model: str) -> bool:
    """Whether --model is the path of a file or folder, and not a factory's name; such a path has a `/` or no `:`."""
    return model.endswith(MODEL_SUFFIXES) or "/" in model or ":" not in model


def make_config(values: dict[str, Any]) -> Config:
    """A Config from keyword arguments as users write them: paths may be `Path`, functions may be functions.

    Raises:
        UsageError: an unknown option, or a value that is not allowed.
    """
    known = {field.name for field in dataclasses.fields(Config)}
    for name in values:
        if name not in known:
            raise UsageError(f"unknown option {name!r}; the options are {', '.join(sorted(known))}")
    plain: dict[str, Any] = {name: os.fspath(v) if isinstance(v, Path) else v for name, v in values.items()}
    for option in _LISTS:
        if isinstance(names := plain.get(option), str):
            plain[option] = tuple(name.strip() for name in names.split(","))
        elif isinstance(names, list):
            plain[option] = tuple(names)
    if isinstance(pairs := plain.get("input"), list):  # of the command line
        plain["input"] = dict(pairs)
    return Config(**plain)
