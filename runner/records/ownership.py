"""Files that a job may replace or delete: its own. What it reads, and what others have put there, is left alone."""

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.formats import HIDDEN_INDEX, find_output_format
from runner.config.options import Config
from runner.config.paths import is_path
from runner.core.errors import OutputError
from runner.records.ledger import run_folder
from runner.sinks import INDEX

_RECORDS = re.compile(
    r"(config\.toml|ledger\.jsonl|quarantine\.jsonl|(manifest|timeline|report|failure|status|trace)\.json|report\.html)"
    r"(\.partial|\.\d+)?|lock(\..+)?"
)
_BEGINNINGS = (b"", b"\x93NUMPY", b"SPL1")  # of a partial output that is a file: new, of .npy, a spool
_MAGIC = re.compile(r"[*?[]")
_ADVICE = "Move it away, or choose another --output"


@dataclass(frozen=True)
class OutputPaths:
    """Names in the file system that belong to one output.

    Attributes:
        output: the output when it is complete.
        partial: its rows until then.
        writing: the output while it is made from them.
        replaced: an earlier output that is a folder, while the new one takes its place.
        folder: the run folder.
    """

    output: Path
    partial: Path
    writing: Path
    replaced: Path
    folder: Path

    @classmethod
    def of(cls, output: str) -> "OutputPaths":
        """Return the names for an output that is a path."""
        path = Path(output)
        return cls(
            output=path,
            partial=Path(f"{path}.partial"),
            writing=Path(f"{path}.writing"),
            replaced=Path(f"{path}.replaced"),
            folder=run_folder(output),
        )


def refuse_unwritable(paths: OutputPaths) -> None:
    """Raise OutputError where nothing can be written to the folder of the output, or to the run folder."""
    if not paths.output.parent.is_dir():
        raise OutputError(f"--output {paths.output}: there is no folder {paths.output.parent}")
    for folder in (paths.output.parent, paths.folder):
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"--output {paths.output}: the folder {folder} is not writable")


def refuse_inputs(config: Config, paths: OutputPaths) -> None:
    """Raise OutputError where writing the output would touch what the job reads, under whatever name.

    A path of the output must not be an input, lie inside a folder that is an input, or be a folder that holds one.
    """
    targets = (paths.output, paths.partial, paths.writing, paths.replaced, paths.folder)
    for option, given in _inputs(config):
        read = os.path.realpath(given)
        for target in targets:
            written = os.path.realpath(target)
            if written == read or (os.path.exists(target) and os.path.samefile(target, read)):
                how = "is the same as"
            elif written.startswith(f"{read}{os.sep}"):
                how = "is inside of"
            elif read.startswith(f"{written}{os.sep}"):
                how = "is a folder with"
            else:
                continue
            name = "" if target == paths.output else f": {target}, which is written on the way,"
            raise OutputError(
                f"--output {paths.output}{name} {how} {option} {given}, which the job reads and would destroy. "
                "Choose another --output"
            )


def named_inputs(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield each value that names, or may name, what a job reads, with its option; see `find_files`."""
    for item in config.data if isinstance(config.data, list | tuple) else [config.data]:
        yield "--data", getattr(item, "filename", None) or item  # np.memmap has a file name
    yield "--weights", config.weights_path
    if is_path(config.model):
        yield "--model", config.model


def _inputs(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each file and folder that a job reads, with its option."""
    constants = (("--input", value) for value in config.input.values())
    for option, value in (*named_inputs(config), *constants):
        for path in find_files(value):
            yield option, path


def find_files(value: Any) -> list[str]:
    """Return the existing files or folders that a value names."""
    if not isinstance(value, str | os.PathLike):
        return []
    path = os.fspath(value).partition("::")[0]
    path = re.sub(r"^(sqlite:///|file://)", "", path)
    found = [path] if os.path.exists(path) else []
    return found or (glob.glob(path, recursive=True) if _MAGIC.search(path) else [])


def refuse_other_kind(config: Config, paths: OutputPaths) -> None:
    """Raise OutputError if a file would replace a folder, or a folder a file or one that the runner has not made."""
    output = paths.output
    format = find_output_format(str(config.output))[0]
    if config.collect_mode.output_is_folder:
        index = INDEX if output.suffix == ".npy" else HIDDEN_INDEX
    elif format.is_folder:
        index = format.index
    elif output.is_dir():
        raise OutputError(f"--output {output} is a folder")
    else:
        return
    if output.is_file():
        kind = f"{config.output} is" if format.is_folder else "--collect shards writes"
        raise OutputError(f"--output {output} is a file, and {kind} a folder")
    if output.is_dir() and not (output / index).exists():
        raise OutputError(f"--output {output} is a folder that the runner has not written: it has no {index}")


def refuse_foreign(paths: OutputPaths) -> None:
    """Raise OutputError where a name that the job would write to or delete is taken by something not of the runner.

    Without records of a run in the run folder, what has such a name is of unknown origin.
    """
    has_run = any(_RECORDS.fullmatch(path.name) and path.name != "lock" for path in paths.folder.glob("*"))
    for path in (paths.partial, paths.writing, paths.replaced):
        if path.is_symlink():
            raise OutputError(f"{path} is a link. {_ADVICE}")
        if path.exists() and not has_run and not (path == paths.partial and _begins_like_ours(path)):
            raise OutputError(f"{path} is there, and no run of the runner is recorded in {paths.folder}. {_ADVICE}")


def refuse_foreign_folder(paths: OutputPaths) -> None:
    """Raise OutputError where the run folder is not one: a link, or a folder with other contents and no ledger."""
    folder = paths.folder
    if folder.is_symlink():
        raise OutputError(f"{folder}, where records of the job are kept, is a link. {_ADVICE}")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}, where records of the job are kept, is a file. {_ADVICE}")
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if not _RECORDS.fullmatch(name)]
    if others and "ledger.jsonl" not in names:
        raise OutputError(f"{folder}, where records of the job are kept, holds files of others: {others[0]}. {_ADVICE}")


def refuse_owner(folder: Path, own: Path) -> None:
    """Raise OutputError where a folder belongs to another user than a file that this job has just made in it.

    The file tells which user this job is to the storage, which may not be the user of this process, such as root.
    """
    try:
        folder_owner, own_owner = folder.stat().st_uid, own.stat().st_uid
    except OSError:
        return
    if folder_owner != own_owner:
        raise OutputError(f"{folder}, where records of the job are kept, belongs to another user. {_ADVICE}")


def clear_records(folder: Path) -> None:
    """Delete the records in a run folder, but the lock, and nothing else; raise OSError where that fails."""
    for path in folder.iterdir():
        if _RECORDS.fullmatch(path.name) and not path.name.startswith("lock") and not path.is_dir():
            path.unlink()


def _begins_like_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(6)
    return any(head.startswith(beginning) if beginning else not head for beginning in _BEGINNINGS)
