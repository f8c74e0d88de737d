"""Options that say where rows come from, and where predictions go."""

from dataclasses import dataclass
from typing import Any

from runner.config.option import ANSWER, NOTHING, option


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options that say where rows come from, and where predictions go."""

    data: Any = option(
        "",
        "data",
        "the data set: a file (such as .npy, .parquet, .csv, .jsonl, .txt, .h5, .tar), a folder, a pattern "
        "such as 'part-*.csv', a database or a URL; PATH::NAME for one column or array in it",
        metavar="PATH",
        affects=ANSWER,
    )
    columns: tuple[str, ...] = option(
        (),
        "data",
        "columns of the data for the model, separated by commas; by default all",
        metavar="NAME,...",
        affects=ANSWER,
    )
    keep: tuple[str, ...] = option(
        (), "data", "passthrough columns, kept beside the predictions, such as ids", metavar="NAME,...", affects=ANSWER
    )
    types: tuple[str, ...] = option(
        (),
        "data",
        "types of columns of CSV and JSON lines, such as id=string,x=float32; NAME=list: lists of any length",
        metavar="NAME=TYPE,...",
        affects=ANSWER,
    )
    null: str | None = option(
        None,
        "data",
        "read nulls in numbers for the model as nan; by default a row with one is a bad row",
        choices=("nan",),
        affects=ANSWER,
    )
    data_args: dict[str, Any] = option(
        {}, "data", "arguments of the function that --data names: a JSON object", metavar="JSON", affects=ANSWER
    )
    skip: int = option(
        0, "data", "rows to skip at the beginning of the data", metavar="ROWS", affects=ANSWER, minimum=0
    )
    limit: int | None = option(
        None, "data", "predict at most this many rows, from --skip on", metavar="ROWS", affects=ANSWER, minimum=0
    )
    output: str | None = option(
        None,
        "data",
        "the predictions, in the format of the suffix; PATH.partial until complete, records in PATH.run/",
        metavar="PATH",
        affects=NOTHING,
    )
    overwrite: bool = option(False, "data", "replace an existing output, once the new one is complete", affects=NOTHING)
    fresh: bool = option(False, "data", "forget an unfinished run of this output and start over", affects=NOTHING)
