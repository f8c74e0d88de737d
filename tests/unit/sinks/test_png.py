"""Images as outputs: what PNG cannot hold is refused, not clipped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runner.core.errors import OutputError, UsageError
from runner.data.rows import RowType
from runner.sinks.files import PngWriter

ROWS: dict[str, tuple[Any, Any]] = {
    "8 bits": (np.arange(6, dtype="i8").reshape(2, 3), np.arange(6, dtype="u1").reshape(2, 3)),
    "16 bits": (np.array([[0, 300]]), np.array([[0, 300]], "u2")),
    "16 bits up to the last": (np.array([[0, 65535]], "u2"), np.array([[0, 65535]], "u2")),
    "colors": (
        np.arange(12, dtype="u1").reshape(3, 2, 2),
        np.arange(12, dtype="u1").reshape(3, 2, 2).transpose(1, 2, 0),
    ),
    "bool": (np.array([[True, False]]), np.array([[255, 0]], "u1")),
    "a bad row": (np.full((2, 2), -1), np.full((2, 2), 255, "u1")),
    "a bad row, unsigned": (np.full((2, 2), 2**32 - 1, "u4"), np.full((2, 2), 255, "u1")),
}


@pytest.mark.parametrize("name", ROWS)
def test_an_image_is_what_pillow_reads_again(name: str, tmp_path: Path) -> None:
    row, expected = ROWS[name]
    types = {"predictions": RowType(row.shape, row.dtype)}
    PngWriter.check("p.png/", types)
    PngWriter(str(tmp_path / "p.png"), types, 1).write({"predictions": row[None]})
    found = np.asarray(Image.open(tmp_path / "p.png/0.png"))
    assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist())


@pytest.mark.parametrize("values", [[70000, 0], [-2, 0], [-1, 0]])
def test_numbers_outside_of_16_bits_are_refused(values: list[int], tmp_path: Path) -> None:
    writer = PngWriter(str(tmp_path / "p.png"), {"predictions": RowType((1, 2), np.dtype("i8"))}, 1)
    with pytest.raises(OutputError, match=r"row 0 holds numbers .*, and PNG holds 0\.\.65535"):
        writer.write({"predictions": np.array([[values]])})


def test_several_channels_are_8_bits() -> None:
    with pytest.raises(UsageError, match="PNG holds several channels in 8 bits"):
        PngWriter.check("p.png/", {"predictions": RowType((3, 4, 4), np.dtype("i8"))})
