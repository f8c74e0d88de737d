"""The memory of a rank, as far as this node can tell, and whether a model is too large to be loaded here."""

import contextlib
from pathlib import Path
from typing import Any

import torch

from runner.commands.plan.fitting import Room
from runner.commands.plan.layout import Layout
from runner.commands.plan.sizes import Sizes
from runner.commands.plan.trial import Trial, lacks_gpu
from runner.config.checks import parse_memory
from runner.config.options import Config
from runner.config.paths import is_path
from runner.core.errors import ModelError, UsageError
from runner.core.limits import free_memory
from runner.core.text import byte_size, plural
from runner.data.rows import RowType
from runner.host.devices import device_kind
from runner.models.kind import weight_files
from runner.models.weights.checkpoints import files_of
from runner.sources import Source

_FOR_A_MODEL = 0.8  # of the free memory on this node


def wants_sizes(config: Config, layout: Layout, given: dict[str, Any]) -> bool:
    """Return whether the number of ranks that must hold the model is to be determined."""
    if "memory_per_rank" in given or config.model_parallel > 1 or config.parallel_plan is not None:
        return True
    if config.offload is not None:
        return False
    limit, _ = rank_memory(config, layout, given)
    return bytes_on_disk(config) > min(limit or free_here(config), free_here(config))


def rank_memory(config: Config, layout: Layout, given: dict[str, Any]) -> tuple[int | None, str]:
    """Return the bytes that one rank has for the model, None where unknown; and the source of that number.

    Raises:
        UsageError: --memory-per-rank is not a size.
    """
    if "memory_per_rank" in given:
        try:
            return parse_memory(given["memory_per_rank"]), "the size given by --memory-per-rank"
        except UsageError as error:
            raise UsageError(
                f"--memory-per-rank {given['memory_per_rank']!r} must be like 900M, 40G or 2T, of a rank"
            ) from error
    if lacks_gpu(config):
        return None, "the job is for GPUs, and this node has none"
    if device_kind(config) == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        return int(gpu.total_memory), f"the memory of a GPU of this host, {gpu.name}"
    whose = "--memory" if "memory" in given else "this node's memory"
    each = layout.ranks_per_node
    return (
        layout.node_bytes // each,
        f"{whose}, {byte_size(layout.node_bytes)}, shared by {plural(each, 'rank')} per node",
    )


def free_here(config: Config) -> int:
    """Return the bytes that a model may take on this node, and on its GPU where the job is for one."""
    free = free_memory()
    if device_kind(config) == "cuda" and not lacks_gpu(config):
        free = min(free, torch.cuda.mem_get_info()[0])
    return round(_FOR_A_MODEL * free)


def find_room(
    config: Config,
    layout: Layout,
    given: dict[str, Any],
    source: Source,
    sizes: Sizes,
    process: int,
    trial: Trial | None,
) -> Room:
    """Return the memory of one rank, and what takes parts of it."""
    nbytes, whence = rank_memory(config, layout, given)
    tokens = _tokens(config, source, sizes) if sizes.token_bytes else 0
    cache = config.batch_size * tokens * sizes.token_bytes
    batch = None
    if trial and trial.rows:
        batch = max(0, trial.batch_bytes - cache)
    return Room(nbytes, whence, process, device_kind(config) == "cuda", batch, cache, tokens)


def bytes_on_disk(config: Config) -> int:
    """Return the bytes of the files with the weights; 0 where there are none, or they cannot be found."""
    files: list[Path] = []
    with contextlib.suppress(ModelError, UsageError):  # reported when the model is read
        if is_path(config.model):
            files = weight_files(config.model)
        elif config.weights_path is not None:
            files = [Path(file) for file in files_of(config.weights_path)]
    return sum(file.stat().st_size for file in files if file.is_file())


def _tokens(config: Config, source: Source, sizes: Sizes) -> int:
    """Return the most tokens of a row at the end of generation; 0 where nothing limits them."""
    added: int = config.model_args.get("max_new_tokens", 0)
    row_type = source.row_type
    if isinstance(row_type, RowType) and not row_type.is_ragged and len(row_type.shape) == 1:
        return int(row_type.shape[0]) + added
    limit: int = config.model_args.get("max_length") or 0
    known = [tokens for tokens in (limit and limit + added, sizes.max_tokens) if tokens]
    return min(known, default=0)
