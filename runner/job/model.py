"""The fourth stage of a job: make the model, with its pre- and post-processing, ready on every rank."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from runner.calls.binding import Binding
from runner.config.constants import read_constants
from runner.config.options import Config
from runner.config.paths import is_path
from runner.core.errors import BatchTooLarge, UsageError
from runner.core.imports import name_of
from runner.core.text import plural
from runner.data.columns import types_by_name
from runner.data.rows import RowType, RowTypes, named_types
from runner.engine.batching import has_text, make_batching
from runner.engine.predictor import Predictor
from runner.engine.prompts import prompt_maker
from runner.engine.transforms import Transform, find_postprocess, find_preprocess
from runner.host.devices import return_freed_memory
from runner.job.context import LoadedModel, Session
from runner.job.session import heed_stop
from runner.models import build_model, input_device
from runner.models.signatures import signature_of
from runner.sources import Source, are_requests, inner_name
from runner.telemetry.log import describe_broadcast
from runner.telemetry.terminal import tell_on_terminal


def load_model(session: Session, source: Source) -> LoadedModel:
    """Load the model, with its pre- and post-processing; every rank that computes calls it.

    Raises:
        ModelError, UsageError: on every rank alike.
        Interrupted: a rank was asked to stop before; on every rank alike.
    """
    config = session.config
    comm = session.comm
    group = session.group
    heed_stop(session)  # loading may take minutes
    if comm.world.rank == 0:
        tell_on_terminal(f"loading the model {name_of(config.model)} ...")
    session.phases.begin("model", "building the model")
    preprocess = comm.on_each(lambda: _find_preprocess(config, source))
    postprocess = comm.on_each(lambda: find_postprocess(config.postprocess))
    return_freed_memory()
    model, digest = group.build() if group else build_model(config, comm, session.device)
    columns = (
        config.columns
        or ((config.messages,) if config.messages else ())
        or [name for name in inner_name(config.data) if name in named_types(source.row_type)]
    )
    to = input_device(model, session.device)
    comm.on_each(lambda: _check_text_options(config, model))
    comm.on_root(lambda: _check_requests(config, model))
    constants = comm.on_root(lambda: read_constants(config.input))
    # not a compiled model, which would be compiled once more; nor a split or offloaded one, which takes long for a row
    is_users = not is_path(config.model) and group is None

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
            truncate=config.truncate or getattr(model, "truncate", None),
            may_keep_tensors=is_users and not config.compile and config.offload is None,
        )
        if (requests := getattr(model, "requests", None)) is not None:
            predictor.tokenize_texts, predictor.count_tokens = requests, requests.lengths
        predictor.text_options += [f"--truncate {config.truncate}"] * (config.truncate is not None)
        if config.batch_tokens is not None and has_text(source.row_type, predictor.ignored):
            predictor.text_options.append(f"--batch-tokens {config.batch_tokens}")
        predictor.batching = make_batching(config, source, predictor, to.type)
        return predictor

    predictor = comm.on_each(make)
    session.phases.end(f"model{describe_broadcast(comm)}")
    return LoadedModel(predictor, digest)


def _find_preprocess(config: Config, source: Source) -> Transform | None:
    """Return what is called with each batch of rows before the model is.

    Raises:
        ModelError, UsageError: the function cannot be imported, or the prompt is not valid.
    """
    if config.messages is not None:
        return lambda batch: batch  # which is text, for the chat template
    if config.prompt is None:
        return find_preprocess(config.preprocess)
    names = [*named_types(source.row_type)] or config.columns or inner_name(config.data)
    known = [name for name in names if name not in config.keep or name in config.columns]
    return prompt_maker(config.prompt, known)


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


def _check_requests(config: Config, model: Callable[..., Any]) -> None:
    if (
        is_path(config.model)
        and getattr(model, "requests", None) is None
        and are_requests(config.data, config.columns, config.keep, config.types_by_column)
    ):
        raise UsageError(
            f"--data {config.data} holds requests of OpenAI's batch format, and --model {config.model} answers none: "
            "that takes a folder of Transformers that generates. With --columns, its lines are a table"
        )


def _check_text_options(config: Config, model: Callable[..., Any]) -> None:
    for name in ("truncate", "prompt", "system", "messages"):
        if getattr(config, name) is not None and not hasattr(model, "tokenize_texts"):
            raise UsageError(
                f"--{name} {getattr(config, name)} applies to texts for a model's tokenizer, and this model has none: "
                "leave it out"
            )
