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
        "the data set: .npy, its first axis the rows, or .parquet, of one column or PATH::COLUMN",
        metavar="PATH",
        affects=ANSWER,
    )
    columns: tuple[str, ...] = option(
        (), "data", "which columns of the data, by commas; by default all", metavar="NAME,...", affects=ANSWER
    )
    keep: tuple[str, ...] = option(
        (), "data", "columns of the data to keep beside the predictions", metavar="NAME,...", affects=ANSWER
    )
    skip: int = option(
        0, "data", "rows of the data to pass over at its beginning", metavar="ROWS", affects=ANSWER, minimum=0
    )
    limit: int | None = option(
        None, "data", "the most rows of the data to predict, after those", metavar="ROWS", affects=ANSWER, minimum=0
    )
    output: str | None = option(
        None,
        "data",
        "the predictions, in the format of its suffix; PATH.partial until whole, records in PATH.run/",
        metavar="PATH",
        affects=NOTHING,
    )
    overwrite: bool = option(
        False, "data", "replace an output that is there already, once the new one is whole", affects=NOTHING
    )
    fresh: bool = option(False, "data", "forget an unfinished run of this output and start over", affects=NOTHING)
