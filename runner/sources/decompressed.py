"""Files of compressed text, decompressed to this host's temporary storage, where their rows can be read in place.

The storage is a file without a name, which is gone with the last process that has it open, however that ends. Other
processes of the host open it through /proc.
"""

import os
import secrets
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.core.errors import InputError, OutputError
from runner.core.messages import tell
from runner.core.printable import safe_message
from runner.core.text import byte_size
from runner.core.urls import is_url
from runner.sources.decompress import compression_of, decompressed
from runner.sources.files import File, open_file

_TOKEN_BYTES = 16  # at the beginning, by which another process knows that it has opened the right file
_LOOK_BYTES = 64 << 20  # the room is looked at after so many
_FREE_PART = 10  # one part in so many of the room that was free at first is left to others
_TELL_SECONDS = 10.0

Beat = Callable[[str], None]  # called again and again with words for what is being decompressed, and how far


@dataclass(frozen=True)
class Place:
    """Where the content of a file lies, for other processes of the host.

    Attributes:
        path: the compressed file.
        stamp: its stamp when it was read.
        storage: the storage, as this process's /proc names it.
        token: its first bytes.
        offset, size: the content in it.
    """

    path: str
    stamp: str
    storage: str
    token: bytes
    offset: int
    size: int


class _Storage:
    """A file without a name, open in this process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        weakref.finalize(self, os.close, fd)


class Contents:
    """The content of a compressed file, held as long as this object lives.

    Attributes:
        place: see `Place`.
    """

    def __init__(self, storage: _Storage, place: Place) -> None:
        self._storage = storage
        self.place = place

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes `start..stop`."""
        parts = []
        while start < stop:
            try:
                parts.append(os.pread(self._storage.fd, stop - start, self.place.offset + start))
            except OSError as error:
                raise InputError(f"--data {self.place.path}: reading {_folder()} failed: {error}") from error
            assert parts[-1]
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)


class DecompressedFile:
    """The content of a compressed file; see `File`."""

    def __init__(self, stored: File, contents: Contents) -> None:
        self.path, self.size = stored.path, contents.place.size
        self._stored = stored
        self._contents = contents

    def read_into(self, buffer: memoryview, position: int) -> None:
        buffer[:] = self._contents.read(position, position + len(buffer))

    def read(self, start: int, stop: int) -> bytes:
        return self._contents.read(start, stop)

    def stamp(self) -> str:
        return self._stored.stamp()


_held: "weakref.WeakValueDictionary[str, Contents]" = weakref.WeakValueDictionary()  # see `_key`


def open_text(path: str) -> tuple[File, File]:
    """Open a file of text, decompressed where its name says that it is compressed.

    Returns:
        The file of text, and the file as it is stored, which is the same if it is not compressed.

    Raises:
        InputError, UsageError, OutputError: see `hold`.
    """
    stored = open_file(path)
    if not compression_of(path):
        return stored, stored
    return DecompressedFile(stored, hold([path])[0]), stored


def hold(paths: Sequence[str], beat: Beat | None = None) -> list[Contents]:
    """Return the contents of compressed files, decompressed unless another object of this process holds them.

    Args:
        paths: the files; those that are not compressed are passed over.
        beat: see `Beat`; by default, a message every 10 s.

    Raises:
        InputError: a file cannot be read, is truncated or damaged, or has changed meanwhile.
        OutputError: the storage is full.
        UsageError: a library is missing.
    """
    storage: _Storage | None = None
    token = secrets.token_bytes(_TOKEN_BYTES)
    position = 0
    contents = []
    for path in filter(compression_of, paths):
        file = open_file(path)
        stamp = file.stamp()
        held = _held.get(_key(path))
        if held is None or held.place.stamp != stamp:
            if storage is None:
                storage, position = _make_storage(path, token), len(token)
            size = _fill(storage, position, file, beat or Teller())
            if file.stamp() != stamp:
                raise InputError(f"--data {path} has changed while it was read")
            place = Place(path, stamp, f"/proc/{os.getpid()}/fd/{storage.fd}", token, position, size)
            held = _held[_key(path)] = Contents(storage, place)
            position += size
        contents.append(held)
    return contents


def adopt(places: Sequence[Place]) -> list[Contents]:
    """Return the contents that other processes of this host have decompressed; left out is what cannot be opened."""
    storages: dict[str, _Storage | None] = {}
    contents = []
    for place in places:
        if place.storage not in storages:
            storages[place.storage] = _open_storage(place)
        if (storage := storages[place.storage]) is not None:
            held = _held[_key(place.path)] = Contents(storage, place)
            contents.append(held)
    return contents


class Teller:
    """Messages on a long decompression."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, words: str) -> None:
        if time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            tell(safe_message(f"runner: {words}"))


def _key(path: str) -> str:
    """Return a name that is the same in every working folder."""
    return path if is_url(path) else os.path.abspath(path)


def _folder() -> str:
    return f"{tempfile.gettempdir()} (TMPDIR)"


def _make_storage(path: str, token: bytes) -> _Storage:
    try:
        with tempfile.TemporaryFile(buffering=0) as file:
            storage = _Storage(os.dup(file.fileno()))
        os.pwrite(storage.fd, token, 0)
    except OSError as error:
        raise OutputError(
            f"--data {path} is decompressed to a temporary file first, which cannot be written: {error}. Set TMPDIR "
            "to a folder of each host with room for it"
        ) from error
    return storage


def _open_storage(place: Place) -> _Storage | None:
    """Open the storage of another process; None where it is not to be seen, as from another container."""
    try:
        storage = _Storage(os.open(place.storage, os.O_RDONLY))
        return storage if os.pread(storage.fd, len(place.token), 0) == place.token else None
    except OSError:
        return None


def _fill(storage: _Storage, start: int, file: File, beat: Beat) -> int:
    """Write the content of a file to the storage, and return its number of bytes."""
    position, looked = start, start
    at_first = _free_bytes(storage)

    def note(done: int) -> None:
        part = done / max(1, file.size)
        beat(f"decompressing {file.path} to {_folder()}: {part:.0%} of {byte_size(file.size)}")

    for piece in decompressed(file, note):
        if position - looked >= _LOOK_BYTES:
            looked = position
            if _free_bytes(storage) < at_first // _FREE_PART:
                raise _no_room(file, position - start, "nearly all of its free room is taken")
        view = memoryview(piece)
        while view:
            try:
                count = os.pwrite(storage.fd, view, position)
            except OSError as error:
                raise _no_room(file, position - start, error.strerror or str(error)) from error
            view = view[count:]
            position += count
    return position - start


def _free_bytes(storage: _Storage) -> int:
    state = os.fstatvfs(storage.fd)
    return state.f_bavail * state.f_frsize


def _no_room(file: File, made: int, why: str) -> OutputError:
    return OutputError(
        f"--data {file.path}: its text, of which {byte_size(made)} are decompressed so far, has no room in "
        f"{_folder()}: {why}. Set TMPDIR to a folder of each host with more room, or decompress it yourself and give "
        "the file that you get"
    )
