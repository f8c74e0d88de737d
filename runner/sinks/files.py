"""Predictions as a folder of files, one a row: images (`NAME.png/`) or arrays (`NAME.npy/`)."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.config.formats import HIDDEN_INDEX
from runner.core.errors import OutputError, UsageError
from runner.data.columns import Columns
from runner.data.rows import TEXT, Ragged, RowType, texts_of
from runner.sinks.names import refuse_name

_MOST_8_BIT = 255
_MOST_16_BIT = 0xFFFF


class FilesWriter:
    """A writer of a file per row, named by its number or by a passthrough text column; `_index.json` lists them.

    Args:
        path: path of the folder.
        types: types of one output and, optionally, one passthrough column of text.
        num_rows: number of rows that it will hold.

    Attributes:
        suffix: suffix of the files.
    """

    suffix = ".npy"

    @classmethod
    def check(cls, output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where there are other columns, or a library is missing."""
        names = [name for name, row_type in types.items() if row_type.dtype == TEXT]
        if len(types) - len(names) != 1 or len(names) > 1:
            raise UsageError(
                f"--output {output} holds one file per row, of one output of the model, and --keep takes at most one "
                "column of text, for the names of the files; these are "
                f"{', '.join(f'{name} ({kind})' for name, kind in types.items())}"
            )

    @staticmethod
    def name_column(types: Mapping[str, RowType]) -> str | None:
        """Return the column that names the files; None where their numbers do."""
        return next((name for name, row_type in types.items() if row_type.dtype == TEXT), None)

    def __init__(self, path: str, types: Mapping[str, RowType], num_rows: int) -> None:
        self._folder = path
        self._digits = len(str(max(0, num_rows - 1)))
        self._name = self.name_column(types)
        self._value = next(name for name in types if name != self._name)
        self._files: list[str] = []
        os.makedirs(path)

    def write(self, columns: Columns) -> None:
        values = columns[self._value]
        first = len(self._files)
        names = [f"{row:0{self._digits}d}" for row in range(first, first + len(values))]
        if self._name is not None:
            texts = columns[self._name]
            assert isinstance(texts, Ragged)
            names = texts_of(texts)
        rows = np.split(values.values, values.offsets[1:-1]) if isinstance(values, Ragged) else values
        for name, row in zip(names, rows, strict=True):
            self._files.append(self._write_row(name, row))

    def close(self) -> None:
        with open(f"{self._folder}/{HIDDEN_INDEX}", "w") as file:
            json.dump({"num_rows": len(self._files), "files": self._files}, file, indent=1)

    def _write_row(self, name: str, row: np.ndarray) -> str:
        """Write one row to a file and return the file's name."""
        called = f"{name}{self.suffix}"
        reason = refuse_name(name, self.suffix)
        if reason:
            raise OutputError(f"--output: row {len(self._files)}: its file's name, {name!r}, {reason}")
        try:
            os.makedirs(os.path.dirname(f"{self._folder}/{called}"), exist_ok=True)
            with open(f"{self._folder}/{called}", "xb") as file:
                self._save(file, row)
        except (FileExistsError, NotADirectoryError) as error:
            raise OutputError(f"--output: two rows have the name {name!r}; keep another column") from error
        return called

    def _save(self, file: Any, row: np.ndarray) -> None:
        np.save(file, row)


class PngWriter(FilesWriter):
    """A writer of images: integers `(height, width)` of gray or classes, or `(1 or 3 or 4, height, width)`.

    One channel with values above 255 is stored in 16 bits; several channels are of uint8, or bool. The fill value of a
    bad row, -1 or the largest unsigned number, becomes the largest value.
    """

    suffix = ".png"

    @classmethod
    def check(cls, output: str, types: Mapping[str, RowType]) -> None:
        super().check(output, types)
        import PIL  # noqa: F401 - a missing library is reported here

        for name, row_type in types.items():
            channels = row_type.shape[0] if len(row_type.shape) == 3 else 1
            is_image = len(row_type.shape) in (2, 3) and channels in (1, 3, 4) and row_type.dtype.kind in "bui"
            if row_type.dtype != TEXT and (row_type.is_ragged or not is_image):
                raise UsageError(
                    f"--output {output}: {name!r} is {row_type} per row, and images are whole numbers of shape "
                    "(height, width) or (3, height, width). Convert it with --postprocess, or write .npy/"
                )
            if channels > 1 and row_type.dtype not in (np.uint8, np.bool_):
                raise UsageError(
                    f"--output {output}: {name!r} is {row_type} per row, and PNG holds several channels in 8 bits. "
                    "Convert it to uint8 with --postprocess, or write .npy/"
                )

    def _save(self, file: Any, row: np.ndarray) -> None:
        from PIL import Image

        image = row.astype(np.uint8) * _MOST_8_BIT if row.dtype == np.bool_ else row
        if image.ndim == 3:
            image = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
        is_fill = bool((image == (-1 if image.dtype.kind == "i" else np.iinfo(image.dtype).max)).all())
        least, most = (0, _MOST_8_BIT) if is_fill else (int(image.min(initial=0)), int(image.max(initial=0)))
        if least < 0 or most > _MOST_16_BIT:
            raise OutputError(
                f"--output: row {len(self._files)} holds numbers {least}..{most}, and PNG holds 0..{_MOST_16_BIT}. "
                "Convert it with --postprocess, or write .npy/"
            )
        pixels = np.full_like(image, _MOST_8_BIT, np.uint8) if is_fill else image
        Image.fromarray(pixels.astype(np.uint8 if most <= _MOST_8_BIT else np.uint16)).save(file, "PNG")
