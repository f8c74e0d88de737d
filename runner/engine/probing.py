"""First row: computing it finds the type of a row of predictions, and the mode in which the model is called."""

from runner.comm import Comm
from runner.core.errors import InputError, ModelError, UsageError
from runner.data.outputs import row_type_of, with_kept
from runner.data.rows import Rows, RowType, RowTypes, take, zero_row
from runner.engine.gradients import Mode, wants_gradients
from runner.engine.predictor import Predictor
from runner.sources import Source
from runner.telemetry.log import LOGGER


def probe(comm: Comm, predictor: Predictor, source: Source, num_tries: int) -> tuple[RowTypes, int | None]:
    """Compute a first row; return the type of a row of predictions, passthrough columns included, and the row's number.

    Rank 0 tries the first `num_tries` rows until one works; without any rows, a row of zeros (the number is None). If
    the model works only with gradients, all ranks call it so from now on. Every rank calls this.

    Raises:
        InputError, ModelError: the error of the first row, where none works.
        UsageError: an output has the name of a passthrough column; or an option for text is given, and there is none.
    """

    def find() -> tuple[RowTypes, int | None, Mode]:
        row_type, row = _find(predictor, source, num_tries)
        return row_type, row, predictor.mode

    row_type, row, predictor.mode = comm.on_root(find)
    if predictor.mode is Mode.GRADIENTS and comm.world.rank == 0:
        LOGGER.info("the model needs gradients: it is called outside of inference mode, with autograd")
    return row_type, row


def _find(predictor: Predictor, source: Source, num_tries: int) -> tuple[RowTypes, int | None]:
    if not source.num_rows:
        return _try(predictor, source, zero_row(source.row_type), 0), None
    first_error: InputError | None = None
    for row in range(min(num_tries, source.num_rows)):
        try:
            return _try(predictor, source, source.read(row, row + 1), row), row
        except InputError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _try(predictor: Predictor, source: Source, rows: Rows, row: int) -> RowTypes:
    """Return the type of the result for one row, and set the predictor's mode.

    A module of the user's is first called without gradients, but not in inference mode: tensors that it may keep from
    its first call, such as a table, could never be differentiated if they had been made there.
    """
    if predictor.mode is Mode.GRADIENTS:
        return _row_type(predictor, source, rows, row)
    try:
        for mode in [Mode.NO_GRADIENTS] * predictor.may_keep_tensors + [Mode.INFERENCE]:
            predictor.mode = mode
            row_type = _row_type(predictor, source, take(rows, range(1)), row)  # preprocessing may change rows in place
        return row_type
    except InputError as error:
        predictor.mode = Mode.INFERENCE
        if not wants_gradients(error):
            raise
        if not predictor.can_have_gradients:
            raise ModelError(
                "the model needs gradients (autograd), which --model-parallel does not compute: leave it out. "
                f"{error.message}",
                error.details,
            ) from error
    predictor.mode = Mode.GRADIENTS
    try:
        return _row_type(predictor, source, rows, row)
    except InputError:
        predictor.mode = Mode.INFERENCE
        raise


def _row_type(predictor: Predictor, source: Source, rows: Rows, row: int) -> RowTypes:
    prepared = predictor.prepare(rows, [row])
    if source.num_rows and not prepared.is_text and predictor.text_options:
        raise UsageError(
            f"{predictor.text_options[0]} applies to texts for a model's tokenizer, and the model gets none: leave it "
            "out"
        )
    row_type = row_type_of(predictor.forward(prepared, [row]))
    if isinstance(source.row_type, RowType):
        return row_type
    return with_kept(row_type, {name: source.row_type[name] for name in predictor.keep})
