"""Path of one batch: rows, preprocess, model, postprocess, predictions. Knows nothing of chunks or ranks."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from runner.calls.binding import Arguments, Binding
from runner.core.errors import InputError, ModelError, RowError
from runner.data.columns import Columns
from runner.data.outputs import Outputs, arrived, as_outputs, check_num_rows
from runner.data.rows import Rows, name_rows
from runner.data.tensors import FileList, Tokens, as_batch, is_text, map_tensors
from runner.engine.failed_batch import failure_of
from runner.engine.gradients import Mode, computing_in
from runner.engine.hints import find_hint
from runner.engine.resets import find_reset
from runner.engine.texts import Cut, count, find_cut, tokenized
from runner.engine.transfer import make_transfer
from runner.engine.transforms import Transform


class Prepared(NamedTuple):
    """A batch ready for the model: its input, what became of its texts, and whether it was text."""

    inputs: Any
    cut: Cut
    is_text: bool


class Predictor:
    """A model with its pre- and post-processing.

    Args:
        model: from a batch to its predictions, a tensor or an array; a module is in evaluation mode, on `device`.
        calling: binds a batch to the arguments of the model.
        device: where the model wants its batches.
        preprocess: from a batch, as `given` returns it, to the model's input; None pads ragged rows and leaves others
            unchanged. The items of a tuple or dict become arguments. Text goes through the model's tokenizer.
        postprocess: from the model's output to what `as_outputs` takes, or None.
        dtype, channels_last: dtype of floating-point inputs, None for theirs; whether four axes get channels-last.
        columns, keep: columns that the model gets, empty for all others than the passthrough columns; these.
        resets, truncate: whether the model's state is reset before each batch; see `Config.truncate`.
        may_keep_tensors: whether the model is code of the user's, which may keep tensors from one call to another.

    Attributes:
        num_behind: see `Transfer.num_behind`.
        ignored: columns that the model does not get.
        mode: mode in which preprocess, model and postprocess are called; the first row decides.
        can_have_gradients: whether the model can be called with them.
        tokenize_texts: the model's tokenizer, from columns of text to `Tokens`; None where it has none.
        count_tokens: from columns of text to the number of tokens of each row; None where the model cannot count.
        batching: see `make_batching`.
        text_options, pads: the user's options that are about text alone; see `Binding.pads`.
        called_with: the arguments of the first call of the model, in words; "" before that.
        reset_name: name of the model's method that resets its state; empty where it has none.

    Raises:
        UsageError: the model has no method to reset its state.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        calling: Binding,
        device: torch.device,
        preprocess: Transform | None,
        postprocess: Transform | None,
        dtype: str | None = None,
        channels_last: bool = False,
        columns: Sequence[str] = (),
        keep: Sequence[str] = (),
        resets: bool = False,
        truncate: str | None = None,
        may_keep_tensors: bool = False,
    ) -> None:
        self._columns = columns
        self.keep = keep
        self.truncate = truncate
        self.ignored = tuple(name for name in keep if name not in columns)
        self._model = model
        self.preprocess = preprocess
        self._postprocess = postprocess
        self.tokenize_texts: Callable[..., Tokens] | None = getattr(model, "tokenize_texts", None)
        self.count_tokens: Callable[..., list[int]] | None = getattr(model, "count_tokens", None)
        self.mode = Mode.INFERENCE
        self.may_keep_tensors = may_keep_tensors
        self.can_have_gradients = getattr(model, "can_have_gradients", True)
        self.text_options: list[str] = []
        self.batching: Callable[[Rows, int], list[np.ndarray]] | None = None
        self._calling = calling
        self.pads = calling.pads
        self.called_with = ""
        self.reset_name, self._reset = find_reset(model, resets)
        casts_all = dtype is not None and not calling.signature.declares_dtypes
        self._dtype = getattr(torch, str(dtype)) if casts_all else None
        self._channels_last = channels_last
        self._transfer = make_transfer(device)
        self.num_behind = self._transfer.num_behind

    def prepare(self, rows: Rows, ids: Sequence[int]) -> Prepared:
        """Make the model's input for the rows `ids`, and start its transfer to the device.

        Raises:
            InputError: a text is too long, and none may be cut.
            ModelError: the user's function failed.
            MemoryShortage: the batch does not fit the memory of the device.
        """
        inputs = self.given(rows, ids)
        try:
            if self.preprocess is None:
                inputs = self._as_inputs(inputs, ids)
            else:
                inputs = tokenized(self.preprocessed(inputs, ids), self.tokenize_texts, ids)
        except RowError as error:
            raise InputError(f"{name_rows(ids)}: {error.message}", error.details) from error
        except InputError:  # it says itself what is wrong
            raise
        except Exception as error:
            raise failure_of("making the model's input", ids, error) from error
        cut = Cut()
        is_text = isinstance(inputs, Tokens)
        if isinstance(inputs, Tokens):
            cut = find_cut(inputs, ids, self.truncate == "refuse")
            inputs = dict(inputs.inputs)
        arguments = self._calling.bind(inputs, ids, are_columns=self.preprocess is None and not is_text)
        if getattr(self._model, "wants_row_numbers", False):
            arguments = Arguments(arguments.positional, arguments.named | {"row_numbers": torch.tensor(ids)})
        try:
            staged = self._transfer.stage(map_tensors(arguments, self._convert))
        except Exception as error:
            raise failure_of("copying to the GPU", ids, error) from error
        return Prepared(staged, cut, is_text)

    def given(self, rows: Rows, ids: Sequence[int]) -> Any:
        """Return a batch: a CPU tensor of rows `(batch, *row_shape)`, a list where rows are ragged, or these by column.

        Raises:
            InputError: a text is not UTF-8.
        """
        try:
            return self._calling.stacked(as_batch(self._for_the_model(rows)), ids)
        except UnicodeDecodeError as error:
            raise InputError(f"{name_rows(ids)}: the text is not UTF-8: {error}") from error

    def preprocessed(self, batch: Any, ids: Sequence[int]) -> Any:
        """Return the result of `preprocess` for a batch.

        Raises:
            ModelError: the function failed.
        """
        assert self.preprocess is not None
        try:
            with computing_in(self.mode):
                return self.preprocess(batch)
        except Exception as error:
            raise failure_of("--preprocess", ids, error) from error

    def forward(self, prepared: Prepared, ids: Sequence[int]) -> Outputs:
        """Return the predictions for a prepared batch: each `(len(ids), ...)`, on the model's device.

        Raises:
            ModelError: the model or the user's function failed, or the output has not one row for each input row.
            MemoryShortage: the batch does not fit the memory of the device.
        """
        inputs = Arguments((), {})
        with computing_in(self.mode):
            try:
                inputs = self._transfer.take(prepared.inputs)
                self.called_with = self.called_with or "; ".join(
                    [self._calling.describe(inputs), *self._calling.casts.values()]
                )
                if self._reset is not None:
                    self._reset()
                output = self._calling.call(self._model, inputs, len(ids))
                count(self._model, prepared.cut, ids)
            except Exception as error:
                hint = find_hint(self._model, inputs, self._calling.describe(inputs))
                raise failure_of("the model", ids, error, hint) from error
            if self._postprocess is not None:
                try:
                    output = self._postprocess(output)
                except ModelError:
                    raise
                except Exception as error:
                    raise failure_of("--postprocess", ids, error) from error
        outputs = as_outputs(output)
        if self.mode is Mode.GRADIENTS:
            outputs = map_tensors(outputs, torch.Tensor.detach)  # and with the graph goes its memory
        check_num_rows(outputs, ids)
        return outputs

    def kept(self, rows: Rows) -> Columns:
        """Return the passthrough columns."""
        return {name: rows[name] for name in self.keep} if isinstance(rows, dict) else {}

    def _for_the_model(self, rows: Rows) -> Rows:
        """Return rows without the columns that are only passed through; a single remaining column without its name."""
        if not isinstance(rows, dict) or not self.keep:
            return rows
        names = self._columns or [name for name in rows if name not in self.keep]
        return {name: rows[name] for name in names} if len(names) > 1 else rows[names[0]]

    def _as_inputs(self, batch: Any, ids: Sequence[int]) -> Any:
        """Return the model's input for a batch without --preprocess: prepared images, `Tokens` of text, padded rows."""
        prepare_images = getattr(self._model, "prepare_images", None)
        if prepare_images is not None and (inputs := prepare_images(batch, ids)) is not None:
            return inputs
        columns = list(batch.values()) if isinstance(batch, dict) else [batch]
        if self.tokenize_texts is not None and any(is_text(column) for column in columns):
            if not all(is_text(column) for column in columns):
                raise ModelError(
                    "some columns are text and some are not, and the model's tokenizer takes text alone: choose with "
                    "--columns, or make one text of them with --preprocess module:function"
                )
            if isinstance(batch, dict) and getattr(self._model, "wants_names", False):
                return self._model.tokenize_named(batch, ids)  # type: ignore[attr-defined]
            return self.tokenize_texts(*columns)
        if any(isinstance(column, FileList) for column in columns):
            raise ModelError(
                "rows that are files need a folder of Hugging Face's or timm's that takes images as the model, or "
                "--preprocess module:function, which gets the bytes of each as a uint8 tensor"
            )
        return self._calling.from_rows(batch, ids)

    def _convert(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(self._dtype)
        if self._channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    def fetch(self, outputs: Outputs, ids: Sequence[int]) -> Callable[[], Outputs]:
        """Start to copy predictions to the CPU, while the next batch is in the model.

        Returns:
            A function that waits for them and returns them. It raises ModelError if the device has failed at this
            batch.
        """
        arriving = map_tensors(outputs, self._transfer.fetch)

        def wait() -> Outputs:
            try:
                outputs_on_cpu: Outputs = arrived(arriving)
                return outputs_on_cpu
            except Exception as error:
                raise failure_of("the model", ids, error) from error

        return wait
