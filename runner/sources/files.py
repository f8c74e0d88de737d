"""Files with random access: local ones by plain reads, and those behind a URL by fsspec.

Plain reads instead of a memory map: a file that shrinks while it is read gives an error here and not a SIGBUS, a
parallel file system gets large requests instead of page faults, and no file page counts as this process's memory.
"""

import io
import os
import weakref
from typing import Any, Protocol

import xxhash

from runner.core.errors import InputError, describe
from runner.core.urls import is_url, storage_of

_READ_AHEAD = 64 << 10  # bytes, where the storage reads ahead
_WHOLE_BYTES = 64 << 20  # a file up to this size is digested completely
_SAMPLES = 256  # a larger one by this many samples
_SAMPLE_BYTES = 64 << 10  # of each
_STAMPS = ("size", "ETag", "etag", "mtime", "modificationTime", "LastModified", "last_modified", "Last-Modified",
           "updated", "created", "VersionId", "generation")  # fmt: skip
_NO_RANGES = "the server sends the whole file where a part is asked for. Copy it to a file first"


class File(Protocol):
    """A file of `size` bytes with random access.

    Attributes:
        path: path or URL, as the user gave it.
        size: size in bytes when it was opened.
    """

    path: str
    size: int

    def read_into(self, buffer: memoryview, position: int) -> None:
        """Fill a buffer with the bytes from a position on.

        Raises:
                InputError: the storage fails, or the file has become shorter.
        """
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes `start..stop`; for exceptions see `read_into`."""
        ...

    def stamp(self) -> str:
        """Return a value that changes whenever the file is written to."""
        ...


def open_file(path: str) -> File:
    """Open a local file or a URL.

    Raises:
        InputError: it does not exist, or cannot be read.
        UsageError: fsspec, or the package it needs for this kind of URL, is missing.
    """
    return RemoteFile(path) if is_url(path) else LocalFile(path)


def read_range(file: File, start: int, stop: int) -> bytes:
    """Return the bytes `start..stop` of a file."""
    return file.read(start, stop)


def sampled_checksum(file: File) -> str:
    """Return a checksum of the size and the bytes of a file, of a large one by samples."""
    state = xxhash.xxh3_128(str(file.size).encode())
    if file.size <= _WHOLE_BYTES:
        positions = [0]
        length = file.size
    else:  # evenly from the first byte to the last
        length = _SAMPLE_BYTES
        positions = [(file.size - length) * index // (_SAMPLES - 1) for index in range(_SAMPLES)]
    buffer = memoryview(bytearray(length))
    for position in positions:
        file.read_into(buffer, position)
        state.update(buffer)
    return f"xxh3:{state.hexdigest()}"


class LocalFile:
    """A file on a file system of this host."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise InputError(f"--data {path}: {error.strerror}") from error
        weakref.finalize(self, os.close, self._fd)
        self.size = os.fstat(self._fd).st_size

    def read_into(self, buffer: memoryview, position: int) -> None:
        while buffer:
            try:
                count = os.preadv(self._fd, [buffer], position)
            except OSError as error:
                raise InputError(f"--data {self.path}: reading at byte {position} failed: {error}") from error
            if not count:
                raise InputError(f"--data {self.path} has become shorter while it was read (byte {position})")
            buffer = buffer[count:]
            position += count

    def read(self, start: int, stop: int) -> bytes:
        # several times as fast as a buffer that is copied: each of those is new memory, which the kernel clears
        try:
            content = os.pread(self._fd, stop - start, start)
        except OSError as error:
            raise InputError(f"--data {self.path}: reading at byte {start} failed: {error}") from error
        if len(content) == stop - start:
            return content
        buffer = bytearray(stop - start)
        self.read_into(memoryview(buffer), start)
        return bytes(buffer)

    def check_length(self) -> None:
        """Raise InputError where the file has become shorter: a memory map of it would end the process (SIGBUS)."""
        if os.fstat(self._fd).st_size < self.size:
            raise InputError(f"--data {self.path} has become shorter while it was read")

    def stamp(self) -> str:
        return file_stamp(self.path)


class RemoteFile:
    """A file behind a URL: `s3://`, `webhdfs://`, `gs://`, `https://`, `memory://` or any other scheme of fsspec."""

    def __init__(self, url: str) -> None:
        self.path = url
        self._storage, self._name = storage_of(url, "--data")
        self._is_http = "http" in self._storage.protocol
        # the other storages read 5 MiB ahead for each row unless told otherwise
        self._options = {} if self._storage.async_impl else {"block_size": _READ_AHEAD}
        info = self._info()
        if info.get("type") == "directory":
            raise InputError(f"--data {url} is a folder; give a file")
        if info.get("size") is None:
            raise InputError(f"--data {url}: the server does not say how long it is. Copy it to a file first")
        self.size = int(info["size"])
        if self._is_http:
            self._check_ranges()

    def read_into(self, buffer: memoryview, position: int) -> None:
        if not buffer:  # some storages take an end of 0 as the end of the file
            return
        end = position + len(buffer)
        try:
            content = self._storage.cat_file(self._name, start=position, end=end, **self._options)
        except Exception as error:
            raise InputError(f"--data {self.path}: reading at byte {position} failed: {self._words(error)}") from error
        if len(content) > len(buffer):
            raise InputError(f"--data {self.path}: {_NO_RANGES}")
        if len(content) < len(buffer):
            raise InputError(f"--data {self.path} has become shorter while it was read (byte {position})")
        buffer[:] = content

    def read(self, start: int, stop: int) -> bytes:
        buffer = bytearray(stop - start)
        self.read_into(memoryview(buffer), start)
        return bytes(buffer)

    def stamp(self) -> str:
        info = self._info()
        return str([str(info[key]) for key in _STAMPS if key in info])

    def _info(self) -> dict[str, Any]:
        try:
            self._storage.invalidate_cache()
            info: dict[str, Any] = self._storage.info(self._name)
        except Exception as error:
            raise InputError(f"--data {self.path}: {self._words(error)}") from error
        return info

    def _check_ranges(self) -> None:
        """Raise InputError where a web server would send the complete file for each row."""
        if self.size < 2:
            return
        try:
            with self._storage.open(self._name, "rb", cache_type="none", size=self.size) as file:
                file.seek(self.size - 1)  # at byte 0 a complete file could not be told from the requested part
                received = len(file.read(1))
        except ValueError:  # raised by fsspec without a read, where the response is not the requested part
            received = 0
        except Exception as error:
            raise InputError(f"--data {self.path}: {self._words(error)}") from error
        if received != 1:
            raise InputError(f"--data {self.path}: {_NO_RANGES}")

    def _words(self, error: Exception) -> str:
        """Describe an exception; for a web server that cannot be reached, fsspec only reports a missing file."""
        cause = error.__cause__ if self._is_http and isinstance(error, FileNotFoundError) else None
        return describe(cause if isinstance(cause, Exception) else error)


class Stream(io.RawIOBase):
    """A file as a Python file object, for libraries that need one."""

    def __init__(self, file: File) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._file.size - self._position)]
        self._file.read_into(view, self._position)
        self._position += len(view)
        return len(view)


def file_stamp(path: str) -> str:
    """Return the stamp of a local file.

    Raises:
        InputError: the file no longer exists.
    """
    try:
        status = os.stat(path)  # by name, so that a file that replaces it is noticed, too
    except OSError as error:
        raise InputError(f"--data {path}: {error.strerror}") from error
    return f"{status.st_size} bytes of {status.st_mtime_ns}"
