"""Imports by name: the user's `module:attribute`, and optional libraries of the runner."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runner.core.errors import ModelError, RunnerError, UsageError, describe
from runner.core.tracebacks import traceback_of

_TITLES = {  # names of libraries whose modules are called otherwise
    "PIL": "Pillow",
    "accelerate": "Accelerate",
    "datasets": "Datasets",
    "onnxruntime": "ONNX Runtime",
    "sentence_transformers": "sentence-transformers",
    "sqlalchemy": "SQLAlchemy",
    "transformers": "Transformers",
}


def split_spec(spec: str, option: str) -> tuple[str, str]:
    """Split `package.module:attribute` into its two halves.

    Raises:
        UsageError: the text is not of that form.
    """
    module, colon, attribute = spec.partition(":")
    if not (module and colon and attribute) or not all(p.isidentifier() for p in f"{module}.{attribute}".split(".")):
        raise UsageError(f"{option} {spec!r} is not of the form package.module:name, such as my_model:build")
    if module.endswith(".py"):
        raise UsageError(f"{option} {spec!r} names a file; a module's name is {module.removesuffix('.py')!r}")
    return module, attribute


def load_attribute(spec: str, option: str) -> Any:
    """Import and return the object that `package.module:attribute` names; the current folder is searched first.

    Raises:
        ModelError: the module cannot be imported, or has no such attribute.
        UsageError: see `split_spec`.
    """
    module_name, attribute = split_spec(spec, option)
    if "" not in sys.path:  # `python -m` has put the current folder there, the console script has not
        sys.path.insert(0, "")
    try:
        target: Any = importlib.import_module(module_name)
    except RunnerError:
        raise
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name)
        raise ModelError(
            f"{option} {spec!r}: importing {module_name} failed with {describe(error)}. "
            + ("It is looked for in the current folder, PYTHONPATH and the installed packages." if missing else ""),
            details="" if missing else traceback_of(error),
        ) from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ModelError(f"{option} {spec!r}: {module_name} has no attribute {attribute!r}")
        target = getattr(target, part)
    return target


def name_of(thing: Any) -> str:
    """Return a stable name for a spec, a function or a class, as the records of a run store it."""
    if isinstance(thing, str):
        return thing
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}:{named.__qualname__}"


def import_extra(name: str, needed_by: str, extra: str) -> Any:
    """Import an optional library.

    Args:
        name: name of the module.
        needed_by: the feature that needs it, as the subject of a sentence.
        extra: the extra of this project that installs it.

    Raises:
        UsageError: the library is missing, or is installed and cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise _not_imported(error, name, needed_by, extra) from error


@contextmanager
def import_errors(needed_by: str, extra: str | None) -> Iterator[None]:
    """Convert a failed import to the UsageError that names the library, and the command that installs it.

    Args:
        needed_by: the feature that needs libraries, as the subject of a sentence.
        extra: the extra of this project that installs them; None where no extra does.
    """
    try:
        yield
    except ImportError as error:
        raise _not_imported(error, (error.name or "a library").partition(".")[0], needed_by, extra) from error


def missing_library(library: str, needed_by: str, extra: str | None) -> UsageError:
    """Return the error for a library that is not installed; for arguments see `import_extra`."""
    how = f": pip install 'horovod-inference-runner[{extra}]'" if extra else ", which is not installed"
    return UsageError(f"{needed_by} needs {_TITLES.get(library, library)}{how}")


def _not_imported(error: Exception, name: str, needed_by: str, extra: str | None) -> UsageError:
    if isinstance(error, ModuleNotFoundError) and error.name == name:
        return missing_library(name, needed_by, extra)
    title = _TITLES.get(name, name)
    return UsageError(f"{needed_by} needs {title}, which cannot be imported: {why_not_imported(error)}")


def why_not_imported(error: BaseException) -> str:
    """Describe an exception; for a failed import, the cause of the failure."""
    while isinstance(error, ImportError) and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return describe(error)
