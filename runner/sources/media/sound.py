"""Decoding of files of sound, whole or not at all: what libsndfile reads short in silence is checked here."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.core.errors import InputError, describe
from runner.core.text import byte_size

_MOST_BYTES = 1 << 30
_UNKNOWN = 0xFFFFFFFF  # the length of what was written to a pipe
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_LAST_PAGE = 4


@dataclass(frozen=True)
class Sound:
    """Sound of one file.

    Attributes:
        rate: sampling rate in Hz.
        channels: number of channels.
        seconds: its length.
        values: float32 `(samples,)`, or `(samples, channels)`; empty where it is only described.
    """

    rate: int
    channels: int
    seconds: float
    values: np.ndarray


def described_sound(content: bytes, what: str) -> Sound:
    """Return the sound of a file without its values; for arguments and exceptions see `decode_sound`."""
    with _opened(content, what) as file:
        return _sound(file, np.empty(0, np.float32))


def decode_sound(content: bytes, rate: int | None, what: str) -> Sound:
    """Decode a file of sound.

    Args:
        content: the file.
        rate: sampling rate to bring it to; None for its own.
        what: name of the row, for messages.

    Raises:
        InputError: it is no sound, damaged, truncated, or too long.
    """
    with _opened(content, what) as file:
        longest = file.frames * file.channels * 4 * max(1.0, (rate or 0) / file.samplerate)
        if longest > _MOST_BYTES:
            raise InputError(
                f"{what} is {byte_size(longest)} when decoded, and at most {byte_size(_MOST_BYTES)} are. Cut it"
            )
        try:
            values = file.read(dtype="float32")
        except RuntimeError as error:
            raise InputError(f"{what} is damaged: {_words(error)}") from error
        if len(values) != file.frames:
            raise InputError(f"{what} is damaged: it holds {len(values)} samples, and tells of {file.frames}")
        if rate is not None and rate != file.samplerate:
            import soxr

            values = soxr.resample(values, file.samplerate, rate)
            return Sound(rate, file.channels, len(values) / rate, values)
        return _sound(file, values)


def _sound(file: Any, values: np.ndarray) -> Sound:
    return Sound(file.samplerate, file.channels, file.frames / file.samplerate, values)


def _opened(content: bytes, what: str) -> Any:
    import soundfile

    if problem := _check_riff(content) if content[:4] in (b"RIFF", b"RF64") else _check_ogg(content):
        raise InputError(f"{what} is {problem}")
    try:
        return soundfile.SoundFile(io.BytesIO(content))
    except RuntimeError as error:
        raise InputError(f"{what} cannot be read as sound: {_words(error)}") from error


def _words(error: Exception) -> str:
    """Return the text of an exception without the address of a buffer."""
    return describe(error).partition("object at ")[2].partition(": ")[2] or describe(error)


def _check_riff(content: bytes) -> str:
    """Return what is wrong with the lengths in a WAV file; empty for nothing."""
    position, long_size = 12, None
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        if name == b"ds64" and position + 24 <= len(content):
            (long_size,) = struct.unpack_from("<Q", content, position + 16)
        if name == b"data":
            size = long_size if size == _UNKNOWN and long_size is not None else size
            there = len(content) - position - 8
            is_short = size > there and size != _UNKNOWN
            return f"truncated: it tells of {size:,} bytes of sound, and has {there:,}" if is_short else ""
        position += 8 + size + size % 2
    return "truncated: its sound is missing"


def _check_ogg(content: bytes) -> str:
    """Return what is wrong with the pages of an Ogg file; empty for nothing, or for another kind of file."""
    position, flags = 0, 0
    is_ogg = content.startswith(b"OggS")
    while is_ogg and position < len(content):
        head = content[position : position + 27]
        table = content[position + 27 : position + 27 + head[26]] if len(head) == 27 else b""
        stop = position + 27 + len(table) + sum(table)
        if len(head) < 27 or len(table) < head[26] or stop > len(content):
            return f"truncated: the page at byte {position:,} is not complete"
        page = head[:22] + bytes(4) + content[position + 26 : stop]
        # zlib's checksum has the bits of each byte in the other order, and begins and ends inverted
        mirrored = zlib.crc32(page.translate(_REVERSED), _UNKNOWN) ^ _UNKNOWN
        if head[:4] != b"OggS" or int(f"{mirrored:032b}"[::-1], 2) != int.from_bytes(head[22:26], "little"):
            return f"damaged: the checksum of the page at byte {position:,} differs"
        position, flags = stop, head[5]
    return "truncated: its last page is missing" if is_ogg and not flags & _LAST_PAGE else ""
