"""Models of sentence-transformers, loaded on rank 0 by the library itself, whose modules compute the results."""

import logging
from pathlib import Path
from typing import Any, NoReturn

import torch

from runner.comm import Comm
from runner.config.options import Config
from runner.core.errors import ModelError, UsageError, describe
from runner.core.imports import import_extra
from runner.core.tracebacks import traceback_of
from runner.models.foldercode import send_code
from runner.models.sentences.folder import kind_of, refuse_code
from runner.models.sentences.kinds import Embeddings, PairScores, SparseEmbeddings
from runner.models.sentences.model import Sentences
from runner.models.sentences.options import adjust, check_options, read_ranges
from runner.models.transformers.folder import import_transformers
from runner.models.weights.broadcast import spread
from runner.models.weights.files import digest_settings


def build_from_sentence_folder(config: Config, comm: Comm, device: torch.device) -> tuple[Any, str]:
    """Load the model on `device`; also return the digest of its weights and settings.

    Raises:
        UsageError: the library is missing, or options do not fit the model.
        ModelError: the folder cannot be used.
    """
    folder = Path(str(config.model))
    kind = comm.on_root(lambda: kind_of(folder)) or ""
    comm.on_each(lambda: import_transformers(config.trust_code))
    comm.on_each(_import_library)
    comm.on_each(lambda: check_options(kind, config.model_args))
    model = comm.on_each(lambda: None if comm.world.rank else _read(folder, kind, config))
    if config.trust_code:
        send_code(comm)
    settings = comm.on_root(lambda: digest_settings(folder))
    model_on_ranks, digest = spread(comm, config, f"--model {folder}", lambda: model, lambda: _refuse(folder), device)
    return model_on_ranks, f"{digest}, settings {settings}"


def _refuse(folder: Path) -> NoReturn:
    raise ModelError(f"--model {folder} cannot be sent to the other ranks; run it on one rank")


def _import_library() -> None:
    import_extra("sentence_transformers", "a model that sentence-transformers has saved", "sentence-transformers")


def _read(folder: Path, kind: str, config: Config) -> Sentences:
    """Return the model with its weights, on the CPU, set up by the options."""
    if not config.trust_code:
        refuse_code(folder)
    options = config.model_args
    ranges = read_ranges(options["calibration"]) if "calibration" in options else None

    def load(seed: int) -> tuple[Sentences, list[str]]:
        model, missing = _load(folder, kind, config.trust_code, seed)
        adjust(model, kind, options)
        if config.truncate in ("left", "right"):
            _cut_at(model, config.truncate)
        if kind == "SentenceTransformer":
            return Embeddings(model, options, ranges), missing
        return (PairScores if kind == "CrossEncoder" else SparseEmbeddings)(model, options), missing

    model, missing = load(0)
    if missing and not _agree(model, load(1)[0]):
        more = " and more" * (len(missing) > 4)
        raise ModelError(f"--model {folder} lacks weights that decide what it gives: {', '.join(missing[:4])}{more}")
    return model


def _cut_at(model: Any, side: str) -> None:
    if not hasattr(model.tokenizer, "truncation_side"):
        raise UsageError(f"--truncate {side}: the tokenizer of this model cuts nothing on a side that can be chosen")
    model.tokenizer.truncation_side = side


def _load(folder: Path, kind: str, trust_code: bool, seed: int) -> tuple[Any, list[str]]:
    """Return the library's model, and the weights that the folder lacks; these get random values, by `seed`."""
    import sentence_transformers

    reports = _Reports()
    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addFilter(reports)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = getattr(sentence_transformers, kind)(
                str(folder), device="cpu", trust_remote_code=trust_code, local_files_only=True
            )
    except Exception as error:
        hint = ". If you trust the author of its code, allow it with --trust-code" if _wants_trust(error) else ""
        raise ModelError(f"--model {folder} cannot be loaded: {describe(error)}{hint}", traceback_of(error)) from error
    finally:
        logger.removeFilter(reports)
        logger.setLevel(level)
    return model.eval(), reports.missing


class _Reports(logging.Filter):
    """A log filter that drops the reports of Transformers on weights that a folder lacks, and collects their names."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        lines = [line.split("|") for line in record.getMessage().splitlines() if "MISSING" in line]
        self.missing += [cells[0].strip() for cells in lines if len(cells) > 1]
        return False


def _agree(one: Sentences, other: Sentences) -> bool:
    """Return whether two models give equal outputs for a few words."""
    with torch.inference_mode():
        return torch.equal(one.sample(), other.sample())


def _wants_trust(error: Exception) -> bool:
    return "trust_remote_code" in str(error)
