"""How many ranks must hold a model together for it to fit their memory: a table, and advice. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from runner.commands.plan.estimate import MPI_BYTES
from runner.commands.plan.layout import Layout, Memory
from runner.commands.plan.sizes import Sizes
from runner.commands.plan.words import in_table, in_units
from runner.config.options import Config
from runner.core.imports import name_of

_MOST_MARGIN = 0.9  # of a rank's memory; what is not counted wants some of it, too
GPU_BYTES = 500 << 20  # that a process takes of a GPU without a model; a guess
_SHOWN, _MOST = 8, 64  # ranks of a group


@dataclass(frozen=True)
class Room:
    """The memory of one rank, in bytes, and what other than weights takes it.

    Attributes:
        nbytes: that it has; None where it is not known.
        whence: says how that is known, or that it is not.
        process: of this node's memory, that a process takes without model and MPI.
        on_gpu: the model is to be in the memory of a GPU, and `nbytes` are of that.
        batch: that a batch has taken of the whole model on one rank, without keys and values; None where none was run.
        cache: keys and values of a batch, of the whole model.
        cache_tokens: of a row, for which that was computed.
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
    """Ranks that hold a replica together, in so many stages."""

    size: int
    stages: int


@dataclass(frozen=True)
class Fitting:
    """What a model takes of ranks that hold it together."""

    config: Config
    layout: Layout
    sizes: Sizes
    room: Room

    def memory(self) -> Memory:
        """Of the job's ranks, on their nodes."""
        room, layout = self.room, self.layout
        part = self.sizes.part(self.config.model_parallel, self.config.pipeline_stages)
        batch = 0 if room.on_gpu else self._of_a_batch(self.config.model_parallel)
        other = room.process + MPI_BYTES + part + batch
        rank_0 = other + (self._root_more if self.config.model_parallel > 1 else 0)
        return Memory(rank_0, other, rank_0 + (layout.together - 1) * other, 0, "computed from the model's sizes")

    @property
    def _root_more(self) -> int:
        """Bytes that rank 0 takes more than others, for a time: to make weights that no file has, or to send some."""
        return self.sizes.root_copies * self.sizes.total or 2 * self.sizes.largest

    @property
    def _rest(self) -> int:
        return GPU_BYTES if self.room.on_gpu else self.room.process + MPI_BYTES

    def _of_a_batch(self, size: int) -> int:
        return self.room.cache // size + (self.room.batch or 0)

    def _need(self, group: Group) -> int:
        """Bytes of one rank, but rank 0, in what the model is to fit."""
        return self._rest + self.sizes.part(group.size, group.stages) + self._of_a_batch(group.size)

    def model(self) -> str:
        """The whole of it."""
        dtypes = ", ".join(f"{dtype} {nbytes:,}" for dtype, nbytes in self.sizes.by_dtype.items())
        return f"{self.sizes.total:,} bytes of parameters and buffers ({dtypes})"

    def lines(self) -> list[list[str]]:
        """The table; then what it counts, and the advice."""
        groups = self._groups()
        room = "fits" if self.room.nbytes is None else f"fits {in_units(self.room.nbytes)}"
        has_stages = any(group.stages > 1 for group in groups)
        rows = [("M", *["stages"] * has_stages, "bytes of weights a rank", "with the rest", room)]
        for group in groups:
            rows.append((f"{group.size:,}", *[f"{group.stages:,}"] * has_stages, *self._cells(group)))
        return [in_table(rows), [*self._counted(), *self._advice(groups)]]

    def _groups(self) -> list[Group]:
        """Those that are worth a look, the smallest first: up to the first that fits."""
        given, stages = self.config.model_parallel, self.config.pipeline_stages
        found: list[Group] = []
        for size in sorted({*(2**power for power in range(_MOST.bit_length())), given}):
            if size > max(_SHOWN, given) and (self.room.nbytes is None or self._smallest(found)):
                break
            group = self._group(size) if stages == 1 or size == 1 else Group(size, stages)
            if size % group.stages == 0 and (size <= _SHOWN or not self._refusal(group)):
                found.append(group)
        return found

    def _group(self, size: int) -> Group:
        """With as few stages as can be: one, where its ranks can split the layers."""
        stages = (2**power for power in range(size.bit_length()) if size % 2**power == 0)
        return next((Group(size, count) for count in stages if not self.sizes.refusal(size, count)), Group(size, 1))

    def _refusal(self, group: Group) -> str:
        return self.sizes.refusal(group.size, group.stages)

    def _smallest(self, groups: list[Group]) -> Group | None:
        """The first of them that fits and can be."""
        return next((group for group in groups if self._fits(group) and not self._refusal(group)), None)

    def _fits(self, group: Group) -> bool:
        return self.room.nbytes is not None and self._need(group) <= _MOST_MARGIN * self.room.nbytes

    def _cells(self, group: Group) -> tuple[str, str, str]:
        if refusal := self._refusal(group):
            others = "" if group.stages > 1 else self.sizes.refusal(group.size, group.size)  # whole layers each
            return "-", "-", f"cannot be: {refusal}{f'; {others}' if others not in ('', refusal) else ''}"
        verdict = "" if self.room.nbytes is None else "yes" if self._fits(group) else "no"
        return f"{self.sizes.part(group.size, group.stages):,}", in_units(self._need(group)), verdict

    def _counted(self) -> Iterator[str]:
        room = self.room
        rest = [
            f"{in_units(self._rest)} that {'CUDA takes (a guess)' if room.on_gpu else 'Python, PyTorch and MPI take'}"
        ]
        if room.cache:
            rest.append(
                f"keys and values of {self.config.batch_size:,} rows of {room.cache_tokens:,} tokens, "
                f"{in_units(room.cache)} shared by M"
            )
        if room.batch is not None:
            rest.append(f"{in_units(room.batch)} that a batch took here, of the whole model")
        yield f"M: ranks that hold a replica together (--model-parallel). The rest: {'; '.join(rest)}"
        uncounted = ["what layers compute of a batch, which grows with --batch-size"] * (room.batch is None)
        if self.config.model_args.get("max_new_tokens") and not room.cache:
            uncounted.append("what the model keeps of the tokens of a batch")
        if uncounted:
            yield f"not counted: {'; '.join(uncounted)}"
        if room.nbytes is not None:
            yield f"fits: in {_MOST_MARGIN:.0%} of {in_units(room.nbytes)}, {room.whence}"

    def _advice(self, groups: list[Group]) -> Iterator[str]:
        found = self._smallest(groups)
        if self.room.nbytes is None:
            yield f"advice: {self.room.whence}; --memory-per-rank SIZE lets this say which M fits"
        elif found is None:
            yield f"advice: no M up to {_MOST} fits. {'. '.join(self._other_ways())}"
        elif found.size == 1:
            yield "advice: the whole model fits one rank, without --model-parallel"
        else:
            yield f"advice: the smallest M that fits is {found.size}: {self._options(found)}. {self._where(found)}"
            if self.sizes.root_copies:
                yield (
                    f"rank 0 takes {in_units(self._root_more)} more at the start, where it makes weights or random "
                    "buffers: a node's memory must have them"
                )

    def _options(self, group: Group) -> str:
        words, plan = [f"--model-parallel {group.size}"], self.config.parallel_plan
        words += [f"--pipeline-stages {group.stages}"] * (group.stages > 1)
        words += [f"--parallel-plan {plan and name_of(plan)}"] * (plan is not None and group.size > group.stages)
        return " ".join(words)

    def _where(self, group: Group) -> str:
        each, together = self.layout.ranks_per_node, group.size // group.stages
        if each % group.size == 0:
            return f"Its ranks are on one node, of {each:,} ranks"
        nodes = f"Its ranks are on several nodes, of {each:,} ranks each"
        if each % together:
            return f"{nodes}: they wait for the network at every second layer"
        return f"{nodes}, which send one another what goes from stage to stage"

    def _other_ways(self) -> Iterator[str]:
        if self.config.dtype is None and "float32" in self.sizes.by_dtype:
            yield "--dtype bfloat16 halves the weights"
        if self.sizes.no_plan:
            yield f"Its layers cannot be split: {self.sizes.no_plan}"
        if self.room.cache:
            yield "A smaller --batch-size has fewer keys and values"
        if not self.room.on_gpu and self.layout.ranks_per_node > 1:
            yield "Fewer --ranks-per-node have more memory each"
        if self.sizes.is_one_file:
            return
        if self.room.on_gpu:
            yield "--offload memory lets the layers come from the host's memory when they are called, slowly"
        yield "--offload disk lets the layers come from their file when they are called, slowly"
