"""Files that are read at any place: local ones by plain reads, and those behind a URL by fsspec.

Plain reads instead of a memory map: a file that shrinks while it is read gives an error here and not a SIGBUS, a
parallel file system gets large requests instead of page faults, and no file page counts as this process's memory.
"""

import os
import weakref
from typing import Any, Protocol

from runner.errors import InputError, UsageError, describe


class File(Protocol):
    """A file of `size` bytes.

    Attributes:
        path: as the user gave it.
        size: in bytes, when it was opened.
    """

    path: str
    size: int

    def read_into(self, buffer: memoryview, position: int) -> None:
        """Fill a buffer from a position on.

        Raises:
            InputError: the storage fails, or the file has become shorter.
        """
        ...

    def stamp(self) -> str:
        """What is another as soon as the file has been written to."""
        ...


def is_url(path: str) -> bool:
    """Whether a path names something that fsspec reaches."""
    return "://" in path


def open_file(path: str) -> File:
    """A local file, or what a URL names.

    Raises:
        InputError: there is none, or it cannot be read.
        UsageError: fsspec, or what it needs for this kind of URL, is missing.
    """
    return RemoteFile(path) if is_url(path) else LocalFile(path)


def read_range(file: File, start: int, stop: int) -> bytes:
    """The bytes `start..stop`."""
    buffer = bytearray(stop - start)
    file.read_into(memoryview(buffer), start)
    return bytes(buffer)


class LocalFile:
    """A file that this machine can open."""

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
            buffer, position = buffer[count:], position + count

    def stamp(self) -> str:
        return file_stamp(self.path)


class RemoteFile:
    """What a URL names: `s3://`, `webhdfs://`, `gs://`, `https://`, `memory://` and whatever else fsspec knows."""

    def __init__(self, url: str) -> None:
        self.path = url
        self._storage, self._name = _storage_of(url)
        self.size = int(self._info()["size"])

    def read_into(self, buffer: memoryview, position: int) -> None:
        try:
            found = self._storage.cat_file(self._name, start=position, end=position + len(buffer))
        except Exception as error:
            raise InputError(f"--data {self.path}: reading at byte {position} failed: {describe(error)}") from error
        if len(found) != len(buffer):
            raise InputError(f"--data {self.path} has become shorter while it was read (byte {position})")
        buffer[:] = found

    def stamp(self) -> str:
        info = self._info()
        return str([info.get(key) for key in ("size", "ETag", "etag", "mtime", "LastModified", "created")])

    def _info(self) -> dict[str, Any]:
        try:
            self._storage.invalidate_cache()
            found: dict[str, Any] = self._storage.info(self._name)
        except Exception as error:
            raise InputError(f"--data {self.path}: {describe(error)}") from error
        return found


def _storage_of(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"--data {url}: URLs need fsspec: pip install 'horovod-inference-runner[url]'") from error
    try:
        storage, name = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UsageError(f"--data {url}: {describe(error)}") from error
    except ValueError as error:
        raise InputError(f"--data {url}: {describe(error)}") from error
    return storage, name


def file_stamp(path: str) -> str:
    """The stamp of a local file.

    Raises:
        InputError: it is gone.
    """
    try:
        status = os.stat(path)  # by name: a file put in its place counts, too
    except OSError as error:
        raise InputError(f"--data {path}: {error.strerror}") from error
    return f"{status.st_size} bytes of {status.st_mtime_ns}"
