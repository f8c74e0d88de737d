"""Rows that are the files of sound in a folder and its subfolders, read by soundfile."""

from dataclasses import replace

import numpy as np

from runner.core.errors import InputError, UsageError
from runner.core.imports import import_extra
from runner.data.rows import RAGGED, TEXT, Column, Ragged, Rows, RowType, RowTypes, ragged
from runner.sources.base import DataSpec, evenly
from runner.sources.media.folder import FolderFiles
from runner.sources.media.image_reader import in_threads
from runner.sources.media.sound import Sound, decode_sound, described_sound

_COLUMNS = ("audio", "path", "label")
_TRIED = 100
_MEASURED = 16


class AudioSource:
    """The files of sound in a folder and its subfolders, in order of their paths.

    Columns are `audio`, float32 in -1..1, variable-length `(samples,)`, or `(samples, channels)` where the files have
    several; `path`, the path relative to the folder, text; `label`, the name of the folder that directly holds the
    file, text. The default is `audio` alone.

    Args:
        spec: its inner name is a sampling rate in Hz, to which files of another one are resampled by soxr. Without it
            all must have that of the first readable one.
        files: the files.

    Raises:
        UsageError: the rate is invalid; `audio` is a passthrough column; a library is missing.
        InputError: no such column; none of the first 100 files can be read, so the rate is unknown.
    """

    def __init__(self, spec: DataSpec, files: FolderFiles) -> None:
        self._path, self._inner = spec.path, spec.inner
        self._files = files
        names = replace(spec, inner="").choose(_COLUMNS, ["audio"])
        if "audio" in spec.keep:
            raise UsageError("--keep audio: sound cannot be kept beside predictions; --keep path keeps its names")
        if spec.inner in _COLUMNS:
            raise UsageError(f"{spec.what}::{spec.inner}: columns are chosen with --columns {spec.inner}")
        if spec.inner and not (spec.inner.isascii() and spec.inner.isdecimal() and int(spec.inner)):
            raise UsageError(f"{spec.what}::{spec.inner}: the name after :: is a sampling rate in Hz, such as ::16000")
        import_extra("soundfile", spec.what, "audio")
        if spec.inner:
            import_extra("soxr", f"{spec.what}::{spec.inner}", "audio")
        self.num_rows = files.num_rows
        first = self._first()
        self._rate = int(spec.inner) if spec.inner else first.rate
        self._channels = first.channels
        shape = RAGGED if first.channels == 1 else (*RAGGED, first.channels)
        self._types = {
            name: RowType(shape, np.dtype(np.float32)) if name == "audio" else RowType(RAGGED, TEXT) for name in names
        }
        self.row_bytes = sum(self._bytes_of(name) for name in names)
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

    def _column(self, name: str, start: int, stop: int) -> Column:
        if name != "audio":
            return self._files.texts(name, start, stop)
        rows = in_threads(self._sound, range(start, stop))
        empty = np.empty((0, *self._types[name].shape[1:]), np.float32)
        return ragged(rows, np.dtype(np.float32)) if rows else Ragged(empty, np.zeros(1, np.int64))

    def _sound(self, row: int) -> np.ndarray:
        what = self._files.name(row)
        sound = decode_sound(self._files.load(row), self._rate if self._inner else None, what)
        if sound.rate != self._rate:
            raise InputError(
                f"{what} is sampled at {sound.rate} Hz, not {self._rate} Hz as those before it. Bring all to one rate "
                f"with --data {self._path}::RATE, such as ::16000"
            )
        if sound.channels != self._channels:
            raise InputError(
                f"{what} has {sound.channels} channels, not {self._channels} as those before it. Write all with one"
            )
        return sound.values

    def _first(self) -> Sound:
        """Return the first readable file's sound, without its values."""
        first_error = None
        for row in range(min(self.num_rows, _TRIED)):
            try:
                return described_sound(self._files.load(row), self._files.name(row))
            except InputError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error

    def _bytes_of(self, name: str) -> int:
        """Return the average size of a row of a column, in bytes; that of sound by some of the files."""
        if name != "audio":
            return self._files.text_bytes(name)
        sizes = []
        for row in evenly(self.num_rows, _MEASURED):
            try:
                sound = described_sound(self._files.load(row), self._files.name(row))
                sizes.append(round(sound.seconds * self._rate) * self._channels * 4)
            except InputError:  # a bad row
                continue
        return sum(sizes) // max(1, len(sizes))
