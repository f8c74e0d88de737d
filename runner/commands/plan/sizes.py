"""The size of a model, and the part that each rank of a group holds, calculated from the results of `sizing.py`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tensor:
    """A parameter or buffer; tied parameters count as one.

    Attributes:
        cut: dimension along which the parallel plan splits it; None where each rank has all of it.
        stages: the stages that hold it, by number of pipeline stages; a number that is missing means all.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    cut: int | None = None
    stages: Mapping[int, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model, and the groups over which it cannot be split.

    Attributes:
        tensors: its parameters and buffers.
        no_plan: reason that there is no plan to split its layers; empty where there is one.
        no_size: sizes of groups that the plan does not support, and why.
        no_stages: numbers of pipeline stages into which it cannot be cut, and why.
        token_bytes: bytes of keys and values kept for each token of a row during generation; 0 without generation.
        max_tokens: most tokens of a row, where the model has such a limit.
        root_copies: number of times rank 0 builds the complete model in a job that splits it.
        is_one_file: whether it is a file whose layers cannot be taken apart.
    """

    tensors: Sequence[Tensor]
    no_plan: str = ""
    no_size: Mapping[int, str] = field(default_factory=dict)
    no_stages: Mapping[int, str] = field(default_factory=dict)
    token_bytes: int = 0
    max_tokens: int | None = None
    root_copies: int = 0
    is_one_file: bool = False

    @property
    def total(self) -> int:
        """The bytes of the complete model."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def largest(self) -> int:
        """The bytes of the largest tensor."""
        return max((tensor.nbytes for tensor in self.tensors), default=0)

    @property
    def by_dtype(self) -> dict[str, int]:
        """The bytes of each dtype, the largest first."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.dtype] += tensor.nbytes
        return dict(sizes.most_common())

    def part(self, size: int, stages: int = 1) -> int:
        """Return the bytes of the fullest rank in a group of `size` ranks in `stages` stages."""
        tensor_size = size // stages
        pieces = [(t, t.nbytes if t.cut is None else t.nbytes // tensor_size) for t in self.tensors]
        every = frozenset(range(stages))
        return max(
            sum(nbytes for tensor, nbytes in pieces if stage in tensor.stages.get(stages, every))
            for stage in range(stages)
        )

    def refusal(self, size: int, stages: int = 1) -> str:
        """Return why a group of `size` ranks in `stages` stages cannot hold the model; empty where it can."""
        if stages in self.no_stages:
            return self.no_stages[stages]
        tensor_size = size // stages
        if tensor_size == 1:
            return ""
        if self.no_plan or tensor_size in self.no_size:
            return self.no_plan or self.no_size[tensor_size]
        for tensor in self.tensors:
            if tensor.cut is not None and tensor.shape[tensor.cut] % tensor_size:
                return (
                    f"the plan splits the {tensor.shape[tensor.cut]} of {tensor.name} {tensor.shape}, which "
                    f"{tensor_size} ranks do not divide"
                )
        return ""
