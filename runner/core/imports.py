"""Imports by name: the user's `module:attribute`, and optional libraries of the runner."""

import importlib
import importlib.util
import sys
from typing import Any

from runner.core.errors import ModelError, RunnerError, UsageError, describe, traceback_of


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
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise UsageError(f"{needed_by} needs {name}: pip install 'horovod-inference-runner[{extra}]'") from error
        raise UsageError(f"{needed_by} needs {name}, which cannot be imported: {why_not_imported(error)}") from error


def why_not_imported(error: BaseException) -> str:
    """Describe an exception; for a failed import, the cause of the failure."""
    while isinstance(error, ImportError) and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return describe(error)
