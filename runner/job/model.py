"""The third stage of a job: make the model, with its pre- and post-processing, ready on every rank."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from runner.calls.binding import Binding
from runner.comm import Comm
from runner.config.constants import read_constants
from runner.config.options import Config
from runner.config.paths import is_path
from runner.core.errors import BatchTooLarge, UsageError
from runner.core.text import plural
from runner.data.columns import types_by_name
from runner.data.rows import RowType, RowTypes, named_types
from runner.engine.batching import has_text, make_batching
from runner.engine.canary import start_canary
from runner.engine.predictor import Predictor
from runner.engine.probing import probe
from runner.engine.recovery import BatchRecovery
from runner.engine.transforms import find_postprocess, find_preprocess
from runner.host.devices import gpu_name, local_device, return_freed_memory, shared_gpus
from runner.host.launch import warn
from runner.job.context import Dataset, LoadedModel, Session
from runner.models import build_model, input_device
from runner.models.signatures import signature_of
from runner.sources import Source, inner_name
from runner.telemetry.log import describe_broadcast

PROBES = 1000  # rows to try until one works, where bad rows are set aside


def load_model(session: Session, dataset: Dataset) -> LoadedModel:
    """Load the model, compute a first row, and compare the ranks' answers; every rank that computes calls it.

    Raises:
        InputError, ModelError, UsageError: on every rank alike.
    """
    config, comm, phases, source = session.config, session.comm, session.phases, dataset.source
    group, stats = session.group, session.stats
    device = group.device if group else comm.on_each(lambda: local_device(config, comm.world.local_rank))
    stats.device = str(device)
    warn(comm.world, shared_gpus(comm.gather_all((comm.world.who, gpu_name(device)))))
    phases.end(f"data: {plural(source.num_rows, 'row')}; on {device} with {plural(stats.threads, 'CPU thread')}")

    phases.begin("model", "building the model")
    predictor, digest = assemble(config, comm, source, device, group.build if group else None)
    phases.end(f"model{describe_broadcast(comm)}")
    phases.begin("checks", "computing the first row and the canary")
    sets_aside = config.on_error == "quarantine"
    row_type, good_row = probe(comm, predictor, source, PROBES if sets_aside else 1)
    recovery = BatchRecovery(source, predictor, good_row, sets_aside)
    canary, agreement = start_canary(config, comm, predictor, source, good_row, row_type)
    phases.end(f"canary: {agreement or 'nothing to compare'}; the model is called with {predictor.called_with}")
    return LoadedModel(predictor, device, digest, row_type, recovery, canary, agreement)


def assemble(
    config: Config,
    comm: Comm,
    source: Source,
    device: torch.device,
    build: Callable[[], tuple[Callable[..., Any], str]] | None = None,
) -> tuple[Predictor, str]:
    """Make the predictor of a job; return it with the digest of the weights. Every rank calls it.

    Args:
        config, comm, source: options, ranks and data of the job.
        device: device of this rank.
        build: makes the model, where this rank does not load it by itself.

    Raises:
        ModelError, UsageError: on every rank alike.
    """
    preprocess = comm.on_each(lambda: find_preprocess(config.preprocess))
    postprocess = comm.on_each(lambda: find_postprocess(config.postprocess))
    return_freed_memory()
    model, weights_digest = build() if build else build_model(config, comm, device)
    columns = config.columns or [name for name in inner_name(config.data) if name in named_types(source.row_type)]
    to = input_device(model, device)
    comm.on_each(lambda: _check_truncate(config, model))
    constants = comm.on_root(lambda: read_constants(config.input))
    # not a compiled model, which would be compiled once more; nor a split or offloaded one, which takes long for a row
    is_users = not is_path(config.model) and build is None

    def make() -> Predictor:
        predictor = Predictor(
            model,
            _make_calling(config, source, columns, model, constants, preprocess is None, to),
            to,
            preprocess,
            postprocess,
            config.dtype,
            config.channels_last,
            columns,
            config.keep,
            resets=config.stateful == "reset",
            truncate=config.truncate,
            may_keep_tensors=is_users and not config.compile and config.offload is None,
        )
        predictor.text_options += [f"--truncate {config.truncate}"] * (config.truncate is not None)
        if config.batch_tokens is not None and has_text(source.row_type, predictor.ignored):
            predictor.text_options.append(f"--batch-tokens {config.batch_tokens}")
        predictor.batching = make_batching(config, source, predictor, to.type)
        return predictor

    return comm.on_each(make), weights_digest


def _make_calling(
    config: Config,
    source: Source,
    columns: Sequence[str],
    model: Callable[..., Any],
    constants: dict[str, Any],
    is_raw: bool,
    device: torch.device,
) -> Binding:
    """Return the binding of the columns that the model gets to its inputs.

    Raises:
        UsageError: they do not fit, or --batch-size is larger than the model takes.
    """
    signature = signature_of(model)
    if signature.most is not None and config.batch_size > signature.most:
        raise BatchTooLarge(
            f"--batch-size {config.batch_size}: the model was exported for batches of {plural(signature.most, 'row')} "
            "at most",
            signature.most,
        )
    types: RowTypes = source.row_type
    if not isinstance(types, RowType) and config.keep:
        types = {name: types[name] for name in columns or [name for name in types if name not in config.keep]}
        types = types if len(types) > 1 else next(iter(types.values()))
    elif isinstance(types, RowType) and types.dtype.names is not None:
        types = types_by_name(types)
    return Binding(signature, types, is_raw, constants, config.dtype, config.stack, device)


def _check_truncate(config: Config, model: Callable[..., Any]) -> None:
    if config.truncate is not None and not hasattr(model, "tokenize_texts"):
        raise UsageError(
            f"--truncate {config.truncate} applies to texts for a model's tokenizer, and this model has none: leave it "
            "out"
        )
