"""Digests of the user's code, so that a resumed run does not mix the predictions of two versions of it.

The user's code is what is neither installed (in a folder site-packages) nor part of Python or of the runner: the
modules of the functions that a job is given, and what these import, at any depth. Code without a file, as in a
notebook, is digested by its compiled form.
"""

import ast
import functools
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import xxhash
from torch import nn

from runner.config.options import Config
from runner.core.tracebacks import is_users

_OPTIONS = ("model", "preprocess", "postprocess", "parallel_plan", "batch_cost", "data")


def digest_code(config: Config) -> dict[str, str]:
    """Return a digest by name for each module of the user's code, and for each function without a file.

    Call it when the functions have been imported.
    """
    walk = _Walk()
    for name in _OPTIONS:
        walk.add(getattr(config, name, None))
    return walk.digests


class _Walk:
    """Walk over the code that a function depends on.

    Attributes:
        digests: digest by name of module or function.
    """

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self._modules: set[str] = set()
        self._functions: list[FunctionType] = []

    def add(self, value: Any) -> None:
        """Add the code of a function, class, module, object or `package.module:name`."""
        if isinstance(value, str):
            module, colon, _ = value.partition(":")
            if colon and module in sys.modules:
                self._add_module(module)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self.add(part)
        elif isinstance(value, nn.Module):
            for name in {type(module).__module__ for module in value.modules()}:
                self._add_module(name)
        elif isinstance(value, FunctionType) and _file_of(sys.modules.get(value.__module__)) is None:
            self._add_function(value)
        elif isinstance(value, list | tuple | dict):
            return  # names of files, or rows
        elif value is not None:
            inner = getattr(value, "__func__", value)  # of a bound method
            self._add_module(getattr(inner, "__module__", None) or type(value).__module__)

    def _add_module(self, name: str) -> None:
        if name in self._modules:
            return
        self._modules.add(name)
        parent = name.rpartition(".")[0]
        if parent:
            self._add_module(parent)
        path = _file_of(sys.modules.get(name)) or _file_to_import(name)
        if path is None or not is_users(path):
            return
        try:
            content = path.read_bytes()
        except OSError:
            return
        self.digests[path.name if name == "__main__" else name] = xxhash.xxh3_128_hexdigest(content)
        if path.suffix == ".py":
            package = name if path.name == "__init__.py" else parent
            for imported in _imports(content, package):
                self._add_module(imported)

    def _add_function(self, function: FunctionType) -> None:
        if function in self._functions:
            return
        self._functions.append(function)  # it may call itself
        name = f"{function.__module__}:{function.__qualname__}"
        while name in self.digests:  # two lambdas, say
            name += "'"
        self.digests[name] = ""
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        values = [function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__]
        state = xxhash.xxh3_128()
        _digest_code(function.__code__, state)
        for value in (*cells, *values, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if isinstance(value, bool | int | float | complex | str | bytes | None):
                state.update(repr(value).encode())
            elif isinstance(value, ModuleType):
                self._add_module(value.__name__)
            elif callable(value):
                self.add(value)
        self.digests[name] = state.hexdigest()


def _digest_code(code: CodeType, state: "xxhash.xxh3_128") -> None:
    state.update(code.co_code)
    state.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _digest_code(constant, state)
        elif not isinstance(constant, frozenset):  # whose order differs from process to process
            state.update(repr(constant).encode())


def _names(code: CodeType) -> list[str]:
    """Return the names that a function and those inside of it look up."""
    inner = [name for constant in code.co_consts if isinstance(constant, CodeType) for name in _names(constant)]
    return [*code.co_names, *inner]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # not assigned yet
        return False


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Yield the names of modules that a source imports, anywhere in it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = f"{'.' * node.level}{node.module or ''}"
            try:
                base = importlib.util.resolve_name(name, package) if node.level else name
            except ImportError:
                continue
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in sys.modules)


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _file_to_import(name: str) -> Path | None:
    """Return the file of a module that is not imported yet, such as one that a function imports when it is called."""
    parent = name.rpartition(".")[0]
    if parent and parent not in sys.modules:
        return None  # finding it would import its parent
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).resolve() if spec and spec.has_location and spec.origin else None
