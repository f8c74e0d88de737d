"""Decompression of complete files as streams: bounded memory, every checksum compared, a truncated file an error."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from runner.core.errors import InputError, describe
from runner.core.imports import import_extra
from runner.core.urls import without_query
from runner.sources.files import File, Stream, read_range

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard"}

_READ_BYTES = 256 << 10  # what follows the end of one member in it is copied for the next
_MADE_BYTES = 4 << 20  # the most that is decompressed at once
_XZ_MEMORY = 1 << 30  # its largest dictionaries would take 4 GiB


def compression_of(path: str) -> str:
    """Return the suffix of a path or URL that names its compression; empty where there is none."""
    name = without_query(path)
    return next((suffix for suffix in COMPRESSIONS if name.endswith(suffix)), "")


def without_compression(path: str) -> str:
    """Return a path or URL without its query and without the suffix of its compression."""
    return without_query(path).removesuffix(compression_of(path))


def decompressed(file: File, beat: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the content of a compressed file in pieces of some MiB.

    Args:
        file: the file, as it is stored.
        beat: called with the number of bytes of the file that have been read, again and again.

    Raises:
        InputError: it is truncated, damaged, or compressed in another way than its name says.
        UsageError: the library of its compression is missing.
    """
    suffix = compression_of(file.path)
    pieces = _zstandard(file, beat) if suffix == ".zst" else _streams(file, beat, _DECODERS[suffix])
    try:
        yield from pieces
    except EOFError as error:
        raise InputError(
            f"--data {file.path} is truncated: after its {file.size:,} bytes, more of what {COMPRESSIONS[suffix]} has "
            "written is missing. Copy it again"
        ) from error
    except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        raise InputError(
            f"--data {file.path} is damaged, or not compressed by {COMPRESSIONS[suffix]} as its name says: "
            f"{describe(error)}"
        ) from error


class _Decoder(Protocol):
    """A decoder of one stream, as those of bz2 and lzma are."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """A decoder of a member of a gzip file; zlib itself compares its checksum and its length."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    ".gz": _Gzip,
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY),
}


def _streams(file: File, beat: Callable[[int], None], make: Callable[[], _Decoder]) -> Iterator[bytes]:
    """Yield the content of all members, one after another; raise EOFError where the last one has no end."""
    position = 0

    def read() -> bytes:
        nonlocal position
        beat(position)
        start, position = position, min(file.size, position + _READ_BYTES)
        return read_range(file, start, position)

    data = read()
    while True:
        decoder = make()
        while not decoder.eof:
            if made := decoder.decompress(data, _MADE_BYTES):
                yield made
                data = b""
            elif not decoder.eof and not (data := read()):
                raise EOFError
        if not (data := decoder.unused_data or read()):
            return


def _zstandard(file: File, beat: Callable[[int], None]) -> Iterator[bytes]:
    pa = import_extra("pyarrow", f"--data {file.path}", "parquet")
    if not file.size:
        raise EOFError  # which pyarrow takes for no frames
    stored = io.BufferedReader(Stream(file), _READ_BYTES)
    with pa.CompressedInputStream(pa.PythonFile(stored, "r"), "zstd") as stream:
        while made := _read(stream):
            beat(stored.tell())
            yield made


def _read(stream: Any) -> bytes:
    try:
        made: bytes = stream.read(_MADE_BYTES)
    except OSError as error:
        if "Truncated" in str(error):
            raise EOFError from error
        raise
    return made
