"""Loading of state dicts from files into a module, with every tensor of both accounted for; independent of ranks."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from runner.config.options import Config
from runner.core.errors import ModelError, describe
from runner.core.messages import tell
from runner.core.text import plural
from runner.models.weights.casts import are_equal, why_lossy
from runner.models.weights.checkpoints import StateDict, read_state_dict
from runner.models.weights.entries import list_names
from runner.models.weights.names import Renamed, hint, rename

EXTRA_STATE = "_extra_state"  # suffix of PyTorch's name for a module's state other than tensors

Place = Callable[[str], object]


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, and how to read it; see the options of the same names.

    Attributes:
        rounds: whether casts to the model's dtype may be lossy, as in the library of a folder.
    """

    path: str
    trust_pickle: bool = False
    key: str | None = None
    prefix: str | None = None
    ignored: tuple[str, ...] = ()
    dtype: str | None = None
    rounds: bool = False

    @classmethod
    def of(cls, config: Config) -> "WeightsFile":
        """Return the file that --weights names, with the options that apply to it."""
        return cls(
            str(config.weights_path),
            config.trust_pickle,
            config.weights_key,
            config.strip_prefix,
            config.ignore_keys,
            config.dtype,
        )


def load_weights(model: nn.Module, file: WeightsFile) -> list[str]:
    """Copy a state dict file into a module by the module's own `load_state_dict`.

    The file must hold every tensor of the module, and no others except those that `file.ignored` names. Prefixes that
    wrappers put before all names (`module.`, `_orig_mod.`) are dropped, with a message.

    Returns:
        The names of the tensors of the file that were ignored.

    Raises:
        ModelError: the file cannot be used, or does not fit; the message names the tensors.
    """
    own = own_state(model)

    def place(name: str) -> object:
        value = own[name]
        return (value.data_ptr(), value.numel()) if _is_tensor(value) and value.numel() else name

    held = read_state_dict(file.path, file.trust_pickle, file.key)
    contents = rename(held.tensors, held.versions, own.keys(), file.prefix)
    _check_values(file, own, contents.tensors, place)
    tensors_by_name: OrderedDict[str, Any] = OrderedDict(contents.tensors)
    tensors_by_name._metadata = contents.versions  # type: ignore[attr-defined]
    missing, unexpected = own.keys() - tensors_by_name.keys(), tensors_by_name.keys() - own.keys()
    scalars = [name for name in own.keys() & tensors_by_name.keys() if _is_tensor(own[name]) and not own[name].ndim]
    if any(_is_tensor(tensors_by_name[name]) and tensors_by_name[name].numel() > 1 for name in scalars):
        _check_fit(file, own, contents, missing, unexpected, place)  # PyTorch loads the first of several as a scalar
    try:
        result = model.load_state_dict(tensors_by_name, strict=False)
    except Exception as error:
        _check_fit(file, own, contents, missing, unexpected, place)
        raise ModelError(f"--weights {file.path} does not fit the model: {describe(error)}") from error
    if hasattr(result, "missing_keys"):  # a module may accept tensors by former names
        missing, unexpected = set(result.missing_keys), set(result.unexpected_keys)
    ignored = _check_fit(file, own, contents, missing, unexpected, place, is_loaded=True)
    _check_others(file, own, contents, tensors_by_name.keys() - own.keys() - unexpected)
    _report_choices(file, held, contents, ignored)
    return ignored


def fitting_weights(own: Mapping[str, Any], file: WeightsFile, place: Place) -> tuple[dict[str, Any], list[str]]:
    """Return the tensors of a state dict file for a module whose tensors are `own`, by the module's names.

    Args:
        own: see `own_state`; only shapes and dtypes are used.
        file: the file.
        place: maps a name to a key that the names of one tied tensor share: one of them in the file is enough.

    Returns:
        (tensors, names of the tensors of the file that were ignored).

    Raises:
        ModelError: the file cannot be used, or does not fit; the message names the tensors.
    """
    if extra := [name for name in own if name.endswith(EXTRA_STATE)]:
        raise ModelError(
            f"--weights {file.path}: the model keeps {list_names(extra)} beside its weights, which --offload and "
            "--model-parallel cannot load"
        )
    held = read_state_dict(file.path, file.trust_pickle, file.key)
    contents = rename(held.tensors, held.versions, own.keys(), file.prefix)
    tensors_by_name = contents.tensors
    _check_values(file, own, tensors_by_name, place)
    ignored = _check_fit(
        file, own, contents, own.keys() - tensors_by_name.keys(), tensors_by_name.keys() - own.keys(), place
    )
    _report_choices(file, held, contents, ignored)
    return {name: tensor for name, tensor in tensors_by_name.items() if name in own}, ignored


def own_state(model: nn.Module) -> dict[str, Any]:
    """Return the contents of a state dict of the module: tensors and extra state."""
    return {
        name: value
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor) or name.endswith(EXTRA_STATE)
    }


def own_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors in a state dict of the module."""
    return {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}


def note_ignored(digest: str, ignored: Collection[str]) -> str:
    """Return the digest of weights, followed by the ignored tensors, for the records of a run."""
    return f"{digest}; without {_count(ignored)} of the file: {', '.join(ignored)}" if ignored else digest


def note_initial(digest: str, untrained: str) -> str:
    """Return the digest of weights, followed by a note if they are random, for the records of a run."""
    return f"{digest}; random initial values" if untrained else digest


def _count(names: Collection[str]) -> str:
    return f"{len(names)} tensor{'s' * (len(names) > 1)}"  # part of the fingerprint: it must never change


def _check_fit(
    file: WeightsFile,
    own: Mapping[str, Any],
    contents: Renamed,
    missing: Collection[str],
    unexpected: Collection[str],
    place: Place,
    is_loaded: bool = False,
) -> list[str]:
    """Return the names of the file's tensors that are ignored.

    Args:
        file: the file.
        own: contents of a state dict of the module.
        contents: contents of the file.
        missing, unexpected: names that only the module has, and only the file.
        place: see `fitting_weights`.
        is_loaded: whether the module has accepted the tensors, so that their shapes are right.

    Raises:
        ModelError: tensors are left over, missing, or have another shape.
    """
    tensors_by_name = contents.tensors
    covered = {place(name) for name in tensors_by_name.keys() & own.keys()}
    missing = [name for name in own if name in missing and place(name) not in covered]
    left_over = [*(name for name in tensors_by_name if name in unexpected), *contents.unprefixed]
    ignored = [name for name in left_over if any(fnmatchcase(name, pattern) for pattern in file.ignored)]
    left_over = [name for name in left_over if name not in ignored]
    reshaped = [] if is_loaded else _reshaped(own, tensors_by_name)
    problems = [
        f"{what} {list_names(names)}"
        for what, names in (("missing", missing), ("unexpected", left_over), ("of another shape", reshaped))
        if names
    ]
    if problems:
        advice = hint(own.keys(), contents, bool(missing), bool(reshaped))
        raise ModelError(f"--weights {file.path} does not fit the model: {'; '.join(problems)}. {advice}")
    return ignored


def _reshaped(own: Mapping[str, Any], tensors_by_name: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {tuple(tensors_by_name[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & tensors_by_name.keys())
        if _is_tensor(own[name])
        and _is_tensor(tensors_by_name[name])
        and tensors_by_name[name].shape != own[name].shape
    ]


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor) and not is_lazy(value)


def _check_values(file: WeightsFile, own: Mapping[str, Any], tensors_by_name: Mapping[str, Any], place: Place) -> None:
    """Raise ModelError where casts to the model's dtypes would be lossy, or tied tensors have different values."""
    shared: dict[object, str] = {}
    for name in own:
        tensor = tensors_by_name.get(name)
        if name.endswith(EXTRA_STATE) or not isinstance(tensor, torch.Tensor):
            continue
        if not file.rounds and (why := why_lossy(tensor, own[name].dtype, file.dtype)):
            raise ModelError(f"--weights {file.path}: {name} {why}")
        first = shared.setdefault(place(name), name)
        if first != name and not are_equal(tensor, tensors_by_name[first]):
            raise ModelError(
                f"--weights {file.path}: {first} and {name} are one tensor in the model and two different ones in the "
                "file. Check --model-args, or that the weights are of this model"
            )


def _check_others(file: WeightsFile, own: Mapping[str, Any], contents: Renamed, names: Collection[str]) -> None:
    """Check the dtypes of tensors that a module has accepted by names other than its own."""
    dtypes = {value.dtype for value in own.values() if isinstance(value, torch.Tensor) and value.is_floating_point()}
    for name in sorted(names):
        tensor = contents.tensors[name]
        for dtype in dtypes if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() else ():
            if why := why_lossy(tensor, dtype, file.dtype):
                raise ModelError(f"--weights {file.path}: {name} {why}")


def _report_choices(file: WeightsFile, held: StateDict, contents: Renamed, ignored: Collection[str]) -> None:
    """Print to stderr which implicit choices were made in reading the file."""
    done = [f"its entry {held.key!r} is taken"] * bool(held.key and file.key is None)
    done += [f"{contents.dropped!r} is dropped from the names"] * bool(contents.dropped)
    done += [f"{plural(len(ignored), 'tensor')} of it ignored: {list_names(ignored)}"] * bool(ignored)
    if done:
        tell(f"runner: --weights {file.path}: {' and '.join(done)}")
