"""Files that rank 0 alone reads, in the memory of every rank, where they can be opened by name."""

import atexit
import mmap
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import xxhash

from runner.comm import Comm
from runner.config.options import Config
from runner.core.errors import ModelError, RunnerError, UsageError, describe

_READ_BYTES = 64 << 20
_SETTINGS = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab", ".bpe", ".py")


class MemoryFile:
    """A file in memory, with a name that any library can open; it takes its size once, and nothing once closed.

    Args:
        size: size in bytes.

    Attributes:
        fileno: its descriptor, valid in this process.
        name: its path, valid in this process.
        raw: its bytes, a 1-D uint8 tensor.
    """

    def __init__(self, size: int) -> None:
        self.fileno = os.memfd_create("model")
        os.ftruncate(self.fileno, size)
        self.name = f"/proc/self/fd/{self.fileno}"
        self.raw = torch.empty(0, dtype=torch.uint8)
        if size:
            self.raw = torch.frombuffer(mmap.mmap(self.fileno, size), dtype=torch.uint8)

    def close(self) -> None:
        """Release the memory."""
        self.raw = torch.empty(0, dtype=torch.uint8)
        os.close(self.fileno)


def broadcast_file(comm: Comm, path: str, option: str) -> tuple[MemoryFile, str]:
    """Return the file that rank 0 finds at `path`, and its digest, which is the same on every rank.

    Raises:
        ModelError: rank 0 cannot read the file, or another rank has received other bytes.
    """
    size = comm.on_root(lambda: _size(path, option))
    file = comm.on_each(lambda: MemoryFile(size))
    comm.on_root(lambda: _read_into(file.raw, path, option))
    comm.broadcast_([file.raw])
    digest = f"xxh3:{xxhash.xxh3_128(file.raw.numpy()).hexdigest()}"
    compare_digests(comm, digest)
    return file, digest


def broadcast_small_files(comm: Comm, folder: Path, patterns: Sequence[str]) -> str:
    """Copy the files of a folder that match these patterns on rank 0 to a folder of this rank, kept until exit.

    Raises:
        ModelError: rank 0 cannot read the files.
    """

    def read() -> dict[str, bytes]:
        try:
            paths = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
            return {path.name: path.read_bytes() for path in sorted(paths)}
        except OSError as error:
            raise ModelError(f"{folder}: {error.strerror}") from error

    def write() -> str:
        own = tempfile.mkdtemp(prefix="runner-model-")
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        same = Path(own) / "model"  # Python names code in the folder by this name, which must be the same on all ranks
        same.mkdir()
        for name, content in files.items():
            (same / name).write_bytes(content)
        return str(same)

    files = comm.on_root(read)
    return comm.on_each(write)


def digest_settings(folder: Path) -> str:
    """Return the checksum of a model's folder without its weights: settings, vocabularies and code.

    Raises:
        ModelError: a file cannot be read.
    """
    state = xxhash.xxh3_128()
    try:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in _SETTINGS and path.is_file()):
            state.update(f"{path.relative_to(folder)}\0".encode(errors="surrogateescape"))
            state.update(path.read_bytes())
    except OSError as error:
        raise ModelError(f"--model {folder}: {error.strerror}") from error
    return f"xxh3:{state.hexdigest()}"


def compare_digests(comm: Comm, digest: str) -> None:
    """Raise ModelError on every rank, with the names of the ranks whose digest differs from rank 0's."""
    digests = comm.gather_all((digest, comm.world.who))

    def compare() -> None:
        differing = [who for digest, who in digests if digest != digests[0][0]]
        if differing:
            raise ModelError(f"the weights received differ from rank 0's on {', '.join(differing)}")

    comm.on_each(compare)


def load_model_file(load: Callable[..., Any], file: MemoryFile, config: Config, device: torch.device) -> Any:
    """Load a model file with a library.

    Args:
        load: makes a model from its path, the device and the configuration.
        file: the file; it is closed.
        config: configuration of the job.
        device: device of the model.

    Raises:
        ModelError: the file cannot be used; the message has the user's name for it.
    """
    try:
        return load(file.name, device, config)
    except UsageError:
        raise
    except RunnerError as error:
        raise type(error)(f"--model {config.model} {error.message}", error.details) from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"--model {config.model} holds a pickle that would run code. If you trust its author, allow it with "
            "--trust-pickle"
        ) from error
    except Exception as error:
        raise ModelError(f"--model {config.model} cannot be loaded: {describe(error)}") from error
    finally:
        file.close()


def build_from_file(
    load: Callable[..., Any], config: Config, comm: Comm, device: torch.device
) -> tuple[Callable[..., Any], str]:
    """Load the file that --model names on every rank, from the bytes that rank 0 has read.

    Args:
        load: see `load_model_file`.
        config, comm, device: configuration, ranks and device of the job.

    Returns:
        The model, and the digest of the file.

    Raises:
        ModelError, UsageError: the file cannot be used; on every rank alike.
    """
    file, digest = broadcast_file(comm, str(config.model), "--model")
    return comm.on_each(lambda: load_model_file(load, file, config, device)), digest


def _size(path: str, option: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise ModelError(f"{option} {path}: {error.strerror}") from error


def _read_into(raw: torch.Tensor, path: str, option: str) -> None:
    try:
        with open(path, "rb", buffering=0) as file:
            rest = memoryview(raw.numpy())
            while rest:
                count = file.readinto(rest[:_READ_BYTES])
                if not count:
                    raise ModelError(f"{option} {path} has become shorter while it was read")
                rest = rest[count:]
    except OSError as error:
        raise ModelError(f"{option} {path}: {error.strerror}") from error
