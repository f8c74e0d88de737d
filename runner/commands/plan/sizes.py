"""How large a model is, and what of it each rank of a group holds. Pure: arithmetic on what `sizing.py` has found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tensor:
    """A parameter or buffer; tied parameters are one.

    Attributes:
        cut: the dimension along which the parallel plan splits it; None where each rank has it whole.
        stages: by number of pipeline stages, those that hold it; a number that is not there means all.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    cut: int | None = None
    stages: Mapping[int, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """Of a model.

    Attributes:
        tensors: what it is made of.
        no_plan: why there is no plan by which its layers are split; empty where there is one.
        no_size: sizes of groups that this plan does not do for, and why.
        no_stages: numbers of pipeline stages that it cannot be cut into, and why.
        token_bytes: of keys and values that it keeps for each token of a row while it generates; 0 where it does not.
        max_tokens: of a row, where the model has such a limit.
        root_copies: how often rank 0 of a job that splits it builds it whole.
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
        """Bytes of the whole model."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def largest(self) -> int:
        """Bytes of the largest tensor."""
        return max((tensor.nbytes for tensor in self.tensors), default=0)

    @property
    def by_dtype(self) -> dict[str, int]:
        """Bytes, the most first."""
        found: Counter[str] = Counter()
        for tensor in self.tensors:
            found[tensor.dtype] += tensor.nbytes
        return dict(found.most_common())

    def part(self, size: int, stages: int = 1) -> int:
        """Bytes that the fullest rank of a group holds, of so many ranks in so many stages."""
        tensor_size = size // stages
        pieces = [(t, t.nbytes if t.cut is None else t.nbytes // tensor_size) for t in self.tensors]
        every = frozenset(range(stages))
        return max(
            sum(nbytes for tensor, nbytes in pieces if stage in tensor.stages.get(stages, every))
            for stage in range(stages)
        )

    def refusal(self, size: int, stages: int = 1) -> str:
        """Why a group of so many ranks in so many stages cannot hold it; empty where it can."""
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
