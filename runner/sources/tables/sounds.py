"""Columns of sound as Hugging Face's Datasets has them: the bytes of a file in each row, and its path."""

from typing import Any, Literal

import numpy as np

from runner.core.errors import InputError, UsageError
from runner.core.imports import import_extra
from runner.data.rows import RAGGED, Column, Ragged, RowType, ragged
from runner.sources.media.decode import Size
from runner.sources.media.image_reader import in_threads
from runner.sources.media.sound import Sound, decode_sound, described_sound
from runner.sources.tables.embedded import content_of, first_content

_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS")


def are_sounds(kind: Any, sample: Any) -> bool:
    """Return whether a column is one of sound.

    Args:
        kind: its Arrow type.
        sample: its first rows, chunked; None where they are not known.
    """
    return (first_content(kind, sample) or b"").startswith(_MAGIC)


class Sounds:
    """A column of sound, decoded; see `runner.sources.media.audio.AudioSource`.

    Args:
        what: the column, for messages.
        sample: its first rows, chunked.
        rate: the sampling rate to bring all to, twice, as of one number for a square; None for that of the first.

    Attributes:
        row_type: float32, variable-length.
        row_bytes: average size of a row, by the sample, in bytes.

    Raises:
        InputError: none of the first rows can be read, so the rate is unknown.
        UsageError: the rate is invalid; a library is missing.
    """

    def __init__(self, what: str, sample: Any, rate: Size | Literal["file"] | None) -> None:
        self._what = what
        import_extra("soundfile", what, "audio")
        if rate is not None and (rate == "file" or rate[0] != rate[1]):
            raise UsageError(f"{what} is sound: after @ its sampling rate in Hz may be given, such as @16000")
        if rate is not None:
            import_extra("soxr", what, "audio")
        sounds = []
        first_error: InputError | None = None
        for number, row in enumerate(sample.to_pylist()):
            try:
                sounds.append(described_sound(self._content(row, number), self._name(number)))
            except InputError as error:
                first_error = first_error or error
        if not sounds:
            assert first_error is not None
            raise first_error
        self._wanted = int(rate[0]) if rate is not None else None
        self._rate = self._wanted or sounds[0].rate
        self._channels = sounds[0].channels
        shape = RAGGED if self._channels == 1 else (*RAGGED, self._channels)
        self.row_type = RowType(shape, np.dtype(np.float32))
        seconds = sum(sound.seconds for sound in sounds) / len(sounds)
        self.row_bytes = round(seconds * self._rate) * self._channels * 4

    def column(self, rows: Any, first: int) -> Column:
        """Return the sound of rows, an Arrow array.

        Raises:
            InputError: one is not there, damaged, or of another rate or number of channels.
        """
        contents = [(self._content(row, number), number) for number, row in enumerate(rows.to_pylist(), first)]
        values = in_threads(lambda pair: self._sound(*pair).values, contents)
        empty = Ragged(np.empty((0, *self.row_type.shape[1:]), np.float32), np.zeros(1, np.int64))
        return ragged(values, self.row_type.dtype) if values else empty

    def _sound(self, content: bytes, row: int) -> Sound:
        sound = decode_sound(content, self._wanted, self._name(row))
        if (sound.rate, sound.channels) != (self._rate, self._channels):
            raise InputError(
                f"{self._name(row)} is sampled at {sound.rate} Hz, with {sound.channels} channels, not at {self._rate} "
                f"Hz, with {self._channels}, as the first. PATH::COLUMN@RATE brings all to one rate"
            )
        return sound

    def _content(self, row: Any, number: int) -> bytes:
        return content_of(row, self._name(number), "sound")

    def _name(self, row: int) -> str:
        return f"{self._what}: row {row}"
