"""The number of ranks that must hold a model together for it to fit their memory: a table, and advice."""

from collections.abc import Iterator
from dataclasses import dataclass

from runner.commands.plan.estimate import MPI_BYTES
from runner.commands.plan.layout import Layout, Memory
from runner.commands.plan.sizes import Sizes
from runner.commands.plan.words import in_table
from runner.config.options import Config
from runner.core.imports import name_of
from runner.core.text import byte_size, plural

_MOST_MARGIN = 0.9  # of a rank's memory; the rest is for what is not counted
GPU_BYTES = 500 << 20  # that a process takes of a GPU without a model; a guess
_SHOWN = 8  # sizes of groups, in ranks
_MOST = 64


@dataclass(frozen=True)
class Room:
    """The memory of one rank, in bytes, and the parts of it taken by other things than weights.

    Attributes:
        nbytes: its memory; None where unknown.
        whence: source of that number, or the reason it is unknown, in words.
        process: memory on this node of a process without model and MPI.
        on_gpu: whether the model is on a GPU, and `nbytes` are the GPU's.
        batch: memory of a batch with the complete model on one rank, without keys and values; None without a run.
        cache: keys and values of a batch, of the complete model.
        cache_tokens: tokens of a row, for which the cache was computed.
    """

    nbytes: int | None
    whence: str
    process: int
    on_gpu: bool
    batch: int | None = None
    cache: int = 0
    cache_tokens: int = 0


@dataclass(frozen=True)
class Group:
    """A group of ranks that hold a replica together, in a number of stages."""

    size: int
    stages: int


@dataclass(frozen=True)
class Fitting:
    """The memory of a model on ranks that hold it together, compared with the memory of the ranks."""

    config: Config
    layout: Layout
    sizes: Sizes
    room: Room

    def memory(self) -> Memory:
        """Return the memory of the job's ranks and of their nodes."""
        room = self.room
        layout = self.layout
        part = self.sizes.part(self.config.model_parallel, self.config.pipeline_stages)
        batch = 0 if room.on_gpu else self._of_a_batch(self.config.model_parallel)
        other = room.process + MPI_BYTES + part + batch
        rank_0 = other + (self._root_more if self.config.model_parallel > 1 else 0)
        return Memory(rank_0, other, rank_0 + (layout.together - 1) * other, 0, "computed from the model's sizes")

    @property
    def _root_more(self) -> int:
        """The extra bytes that rank 0 needs for a time: to make weights that no file has, or to send some."""
        return self.sizes.root_copies * self.sizes.total or 2 * self.sizes.largest

    @property
    def _rest(self) -> int:
        return GPU_BYTES if self.room.on_gpu else self.room.process + MPI_BYTES

    def _of_a_batch(self, size: int) -> int:
        return self.room.cache // size + (self.room.batch or 0)

    def _need(self, group: Group) -> int:
        """Return the bytes that a rank other than rank 0 needs in the memory that must hold the model."""
        return self._rest + self.sizes.part(group.size, group.stages) + self._of_a_batch(group.size)

    def model(self) -> str:
        """Describe the complete model."""
        dtypes = ", ".join(f"{dtype} {nbytes:,}" for dtype, nbytes in self.sizes.by_dtype.items())
        return f"{plural(self.sizes.total, 'byte')} of parameters and buffers ({dtypes})"

    def lines(self) -> list[list[str]]:
        """Return the table; then its explanation and the advice."""
        groups = self._groups()
        room = "fits" if self.room.nbytes is None else f"fits {byte_size(self.room.nbytes)}"
        has_stages = any(group.stages > 1 for group in groups)
        rows = [("M", *["stages"] * has_stages, "bytes of weights per rank", "with the rest", room)]
        for group in groups:
            rows.append((f"{group.size:,}", *[f"{group.stages:,}"] * has_stages, *self._cells(group)))
        return [in_table(rows), [*self._counted(), *self._advice(groups)]]

    def _groups(self) -> list[Group]:
        """Return the groups to show, the smallest first, up to the first that fits."""
        wanted, stages = self.config.model_parallel, self.config.pipeline_stages
        groups: list[Group] = []
        for size in sorted({*(2**power for power in range(_MOST.bit_length())), wanted}):
            if size > max(_SHOWN, wanted) and (self.room.nbytes is None or self._smallest(groups)):
                break
            group = self._group(size) if stages == 1 or size == 1 else Group(size, stages)
            if size % group.stages == 0 and (size <= _SHOWN or not self._refusal(group)):
                groups.append(group)
        return groups

    def _group(self, size: int) -> Group:
        """Return the group of this size with the fewest stages; one, where its ranks can split the layers."""
        stages = (2**power for power in range(size.bit_length()) if size % 2**power == 0)
        return next((Group(size, count) for count in stages if not self.sizes.refusal(size, count)), Group(size, 1))

    def _refusal(self, group: Group) -> str:
        return self.sizes.refusal(group.size, group.stages)

    def _smallest(self, groups: list[Group]) -> Group | None:
        """Return the first group that fits and is possible, or None."""
        return next((group for group in groups if self._fits(group) and not self._refusal(group)), None)

    def _fits(self, group: Group) -> bool:
        return self.room.nbytes is not None and self._need(group) <= _MOST_MARGIN * self.room.nbytes

    def _cells(self, group: Group) -> tuple[str, str, str]:
        if refusal := self._refusal(group):
            others = "" if group.stages > 1 else self.sizes.refusal(group.size, group.size)  # whole layers each
            return "-", "-", f"impossible: {refusal}{f'; {others}' if others not in ('', refusal) else ''}"
        verdict = "" if self.room.nbytes is None else "yes" if self._fits(group) else "no"
        return f"{self.sizes.part(group.size, group.stages):,}", byte_size(self._need(group)), verdict

    def _counted(self) -> Iterator[str]:
        room = self.room
        rest = [
            f"{byte_size(self._rest)} that {'CUDA takes (a guess)' if room.on_gpu else 'Python, PyTorch and MPI take'}"
        ]
        if room.cache:
            rest.append(
                f"keys and values of {plural(self.config.batch_size, 'row')} of {plural(room.cache_tokens, 'token')}, "
                f"{byte_size(room.cache)} divided by M"
            )
        if room.batch is not None:
            rest.append(f"{byte_size(room.batch)} that a batch of the complete model took here")
        yield f"M: ranks that hold a replica together (--model-parallel). The rest: {'; '.join(rest)}"
        uncounted = ["activations, which grow with --batch-size"] * (room.batch is None)
        if self.config.model_args.get("max_new_tokens") and not room.cache:
            uncounted.append("keys and values of the tokens of a batch")
        if uncounted:
            yield f"not counted: {'; '.join(uncounted)}"
        if room.nbytes is not None:
            yield f"fits: in {_MOST_MARGIN:.0%} of {byte_size(room.nbytes)}, {room.whence}"

    def _advice(self, groups: list[Group]) -> Iterator[str]:
        smallest = self._smallest(groups)
        if self.room.nbytes is None:
            yield f"advice: {self.room.whence}; give --memory-per-rank SIZE to find which M fits"
        elif smallest is None:
            yield f"advice: no M up to {_MOST} fits. {'. '.join(self._other_ways())}"
        elif smallest.size == 1:
            yield "advice: the complete model fits one rank, without --model-parallel"
        else:
            where = self._where(smallest)
            yield f"advice: the smallest M that fits is {smallest.size}: {self._options(smallest)}. {where}"
            if self.sizes.root_copies:
                yield (
                    f"rank 0 needs {byte_size(self._root_more)} more of its node's memory at the start, where it makes "
                    "weights or random buffers"
                )

    def _options(self, group: Group) -> str:
        words = [f"--model-parallel {group.size}"]
        plan = self.config.parallel_plan
        words += [f"--pipeline-stages {group.stages}"] * (group.stages > 1)
        words += [f"--parallel-plan {plan and name_of(plan)}"] * (plan is not None and group.size > group.stages)
        return " ".join(words)

    def _where(self, group: Group) -> str:
        each = self.layout.ranks_per_node
        together = group.size // group.stages
        if each % group.size == 0:
            return f"Its ranks are on one node of {plural(each, 'rank')}"
        nodes = f"Its ranks are on several nodes of {plural(each, 'rank')}"
        if each % together:
            return f"{nodes}: every second layer waits for the network"
        return f"{nodes}; activations travel between nodes from stage to stage"

    def _other_ways(self) -> Iterator[str]:
        if self.config.dtype is None and "float32" in self.sizes.by_dtype:
            yield "--dtype bfloat16 halves the weights"
        if self.sizes.no_plan:
            yield f"Its layers cannot be split: {self.sizes.no_plan}"
        if self.room.cache:
            yield "A smaller --batch-size needs memory for fewer keys and values"
        if not self.room.on_gpu and self.layout.ranks_per_node > 1:
            yield "Fewer --ranks-per-node leave more memory for each"
        if self.sizes.is_one_file:
            return
        if self.room.on_gpu:
            yield "--offload memory loads layers from the host's memory when they are called, slowly"
        yield "--offload disk loads layers from their file when they are called, slowly"
