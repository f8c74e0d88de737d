"""Rows that are the images in a folder and its subfolders, read by Pillow."""

from dataclasses import replace

from runner.core.errors import UsageError
from runner.data.rows import RAGGED, TEXT, Column, Rows, RowType, RowTypes
from runner.sources.base import DataSpec
from runner.sources.media.decode import SUFFIXES, Size, size_of
from runner.sources.media.folder import FolderFiles, find_files
from runner.sources.media.image_reader import FileReader, ImageReader

_COLUMNS = ("image", "path", "label", "file")


class ImageSource:
    """The images in a folder and its subfolders, in order of their paths; hidden files and other files are ignored.

    Columns are `image`, uint8 `(3, height, width)` in RGB; `path`, the path relative to the folder, text; `label`, the
    name of the folder that directly holds the image, text; and `file`, the bytes of the file, for consumers that decode
    images at their own sizes. The default is `image` alone.

    Args:
        spec: its inner name is `HEIGHTxWIDTH` or one number: every image is scaled to cover this size, bilinearly and
            with antialiasing, and its middle is cut out. Without it all must have the size of the first readable one.
            Or `file`, where no columns are requested.
        files: the images; None to look for them.

    Raises:
        UsageError: the size is invalid; `file` is a passthrough column.
        InputError: no such folder or column; none of the first 100 can be read, so the size is unknown.
    """

    def __init__(self, spec: DataSpec, files: FolderFiles | None = None) -> None:
        self._path, self._inner = spec.path, spec.inner
        inner, default = ("", "file") if spec.inner == "file" and not spec.columns else (spec.inner, "image")
        names = replace(spec, inner="").choose(_COLUMNS, [default])
        if "file" in spec.keep:
            raise UsageError("--keep file: files cannot be kept beside predictions; --keep path keeps their names")
        if inner in _COLUMNS:
            raise UsageError(f"{spec.what}::{inner}: columns of a folder of images are chosen with --columns {inner}")
        size = size_of(inner, f"{spec.what}::{inner}") if inner else None
        self._files = files or FolderFiles(spec, find_files(spec.path, SUFFIXES))
        self.num_rows = self._files.num_rows
        self._types = dict.fromkeys(names, RowType(RAGGED, TEXT))
        self._readers = {name: self._reader(name, size) for name in names if name in ("image", "file")}
        self._types |= {name: reader.row_type for name, reader in self._readers.items()}
        self.row_bytes = sum(reader.row_bytes for reader in self._readers.values())
        for name in self._types.keys() - self._readers.keys():
            self.row_bytes += self._files.text_bytes(name)
        self.row_type: RowTypes = self._types if len(names) > 1 else self._types[names[0]]

    def read(self, start: int, stop: int) -> Rows:
        columns = {name: self._column(name, start, stop) for name in self._types}
        return columns if len(columns) > 1 else next(iter(columns.values()))

    def digest(self) -> str:
        return self._files.digest(f"{list(self._types)} {self._inner} {self.num_rows}")

    def stamp(self) -> str:
        return self._files.stamp()

    @property
    def notes(self) -> list[str]:
        return self._files.notes

    def _reader(self, name: str, size: Size | None) -> ImageReader | FileReader:
        if name == "file":
            sizes = self._files.sizes()
            return FileReader(self._files.load, sum(sizes) // len(sizes))
        import PIL  # noqa: F401 - a missing library is reported here, not at the first row

        advice = (
            f"Bring all to one size with --data {self._path}::HEIGHTxWIDTH. Or leave it to the image processor "
            f"of a model folder: --data {self._path}::file"
        )
        return ImageReader(self.num_rows, self._files.load, self._files.name, size, advice)

    def _column(self, name: str, start: int, stop: int) -> Column:
        if name in self._readers:
            return self._readers[name].read(start, stop)
        return self._files.texts(name, start, stop)
