"""Matching of the columns of the data to the inputs of a model, with the reason where they do not match."""

from collections.abc import Collection, Mapping, Sequence

from runner.calls.signature import MASKS, Signature, name_of_dtype
from runner.core.errors import UsageError
from runner.core.text import listed
from runner.data.rows import TEXT, RowType


class Matching:
    """Match of columns and the inputs of a model.

    Args:
        signature: inputs of the model.
        types: columns that the model gets; a single one without a name is under "".
        constants: names of the inputs that are the same in every call.

    Attributes:
        inputs: inputs that are given by position, without constants.
        has_text: whether there is a column of text.
        carries_mask: whether a column is the mask of others.
        mask: the input for the mask of padded rows: its name, "" for the second of two, None where there is none.
        needs_mask: whether rows of one length get a mask, too: the model has an input of this name, and needs it.
    """

    def __init__(self, signature: Signature, types: Mapping[str, RowType], constants: Collection[str]) -> None:
        self._signature = signature
        self._types = types
        self._constants = constants
        self.inputs = signature.open_inputs(constants)
        self.has_text = any(column.dtype == TEXT for column in types.values())
        self.carries_mask = any(name in MASKS and column.is_ragged for name, column in types.items())
        self.mask = self._find_mask()
        named = signature.find(self.mask) if self.mask else None
        is_vector = "" in types and len(types[""].shape) == 1 and not types[""].is_ragged
        self.needs_mask = is_vector and named is not None and named.is_required

    def _find_mask(self) -> str | None:
        if self.carries_mask:
            return None
        if self._signature.mask and self._signature.mask.name not in self._constants:
            return self._signature.mask.name
        inputs = self.inputs
        is_pair = len(inputs) > 1 and [value.is_required for value in inputs[:3]] in ([True, True], [True, True, False])
        is_open = len(inputs) < 2 and self._signature.more_positional
        return "" if "" in self._types and (is_pair or is_open) else None

    def by_position(self, names: Collection[str]) -> bool:
        """Return whether columns go to inputs in order, because none has the name of an input and there are as many."""
        if any(self._signature.find(name) for name in names) or self._signature.more_named:
            return False
        counts = (len(self.inputs), sum(value.is_required for value in self.inputs))
        return len(names) in counts and all(value.of_rows for value in self.inputs[: len(names)])

    def misfit(self, num_positional: int, names: Sequence[str]) -> str:
        """Return the problem with so many arguments by position and these names; empty where there is none."""
        signature, inputs = self._signature, self.inputs
        positional = {value.name for value in inputs[:num_positional]}
        unknown = [name for name in names if not signature.find(name) or name in positional]
        missing = [
            value.name
            for value in signature.inputs
            if value.is_required and value.name not in (positional | set(names) | set(self._constants))
        ]
        too_many = num_positional > len(inputs) and not signature.more_positional
        if missing or too_many or (unknown and not signature.more_named):
            return f"the model takes {signature}"
        return ""

    def check_inputs(self, is_raw: bool, dtype: str | None) -> None:
        """Raise UsageError if an input gets neither rows nor a constant, or no input has the dtype of --dtype."""
        signature = self._signature
        for value in signature.inputs:
            if is_raw and value.is_required and not value.of_rows and value.name not in self._constants:
                raise UsageError(
                    f"the model's input {value} has no batch axis; give it with --input {value.name}=VALUE a number, a "
                    "list (JSON) or the array of a .npy file, the same in every call"
                )
        dtypes = {name_of_dtype(value.dtype) for value in signature.inputs if value.dtype}
        if dtype and signature.declares_dtypes and dtype not in dtypes:
            raise UsageError(f"--dtype {dtype}: the model takes {signature}")

    def check_columns(self) -> None:
        """Raise UsageError if columns, by their names or in their order, do not fit the inputs of the model."""
        is_padded = any(column.is_ragged and column.dtype != TEXT for column in self._types.values())
        names = [*self._types, *([self.mask] if self.mask and is_padded else [])]
        if self.by_position(names) or not (problem := self.misfit(0, names)):
            return
        raise UsageError(f"{problem}; the data has the columns {listed(list(self._types))}. {self.advice()}")

    def advice(self) -> str:
        """Return what to do about columns that do not fit; empty where the data has no columns."""
        if "" in self._types:
            is_vector = len(self._types[""].shape) == 1 and self.mask == ""
            return "If the second is the mask of padded rows, which all have one length: --types NAME=list" * is_vector
        others = [name for name, column in self._types.items() if not _is_number(column)]
        if len(self.inputs) != 1 or len(others) == len(self._types):
            return "Choose columns with --columns, or give them the names of the inputs"
        stack = "--stack makes one matrix (rows, columns) of columns of numbers"
        return f"--keep {','.join(others)} leaves out the rest, beside the predictions; {stack}" if others else stack


def check_stack(types: Mapping[str, RowType]) -> None:
    """Raise UsageError unless all columns are of numbers, one per row."""
    for name, column in types.items():
        if not _is_number(column):
            what = f"column {name!r}" if name else "the data"
            raise UsageError(
                f"--stack makes one matrix of columns of numbers; {what} is {column}. Choose others with --columns"
            )


def _is_number(column: RowType) -> bool:
    return not column.shape and column.dtype.kind in "biuf"
