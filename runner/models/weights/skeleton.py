"""A Python object without the numbers in it: pickled where it was made, and rebuilt elsewhere.

Each storage is found once, whatever the object is (a module, or any other callable) and wherever in it tensors and
NumPy arrays are. So views, tied tensors, tables, settings and plain attributes are the same on the receiver as on the
sender.
"""

import contextlib
import io
import pickle
import sys
import threading
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from runner.models.weights.meta import parameters_on_meta

_PLAIN = (torch.Tensor, nn.Parameter)
_ALIGNMENT = 64  # bytes, of every allocation by PyTorch on the CPU
_BUILT: set[type] = set()  # classes of Transformers, built in this process
_LOCKS = {type(make()): make for make in (threading.Lock, threading.RLock)}


@dataclass(frozen=True)
class Skeleton:
    """An object taken apart into its structure and its storages.

    Attributes:
        pickled: the object without the contents of its storages.
        devices: the device of each storage: "cpu", or "cuda" for the rank's own GPU.
        storages: storages of its tensors, in the order in which they were found; on the CPU, 1-D uint8.
        arrays: memory of its NumPy arrays, 1-D uint8.
    """

    pickled: bytes
    devices: list[str]
    storages: list[torch.Tensor]
    arrays: list[torch.Tensor]

    def align(self) -> bool:
        """Copy each storage that is not aligned like PyTorch's own allocations, such as those of mapped files.

        Kernels add numbers in another order where a weight is not aligned: a rank that has read a file would get other
        last bits than a rank that has received the same values.

        Returns:
            Whether there were any, so that the object must be rebuilt.
        """
        odd = [place for place, raw in enumerate(self.storages) if raw.data_ptr() % _ALIGNMENT]
        for place in odd:
            self.storages[place] = self.storages[place].clone()
        return bool(odd)


def take_apart(thing: Any) -> Skeleton:
    """Pickle an object without its numbers.

    Raises:
        Exception: of any type, where a part of the object cannot be pickled.
    """
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    pickler = _Pickler(file, buffer_callback=buffers.append)
    pickler.dump(thing)
    raws = [_raw(storage) for storage in pickler.storages]
    devices = [raw.device.type for raw in raws]
    return Skeleton(file.getvalue(), devices, [raw.cpu() for raw in raws], [_bytes_of(buffer) for buffer in buffers])


def put_together(skeleton: Skeleton, device: torch.device) -> Any:
    """Rebuild the object, with its tensors and arrays in the memory of the skeleton.

    Args:
        skeleton: result of `take_apart`, in this process or another.
        device: device of this rank, for storages that were on a GPU.

    Raises:
        Exception: of any type, where the object cannot be unpickled here.
    """
    unpickler = _Unpickler(
        io.BytesIO(skeleton.pickled), buffers=[memoryview(array.numpy()) for array in skeleton.arrays]
    )
    unpickler.device = device
    unpickler.raws = [
        raw.to(device) if kind == "cuda" else raw for raw, kind in zip(skeleton.storages, skeleton.devices, strict=True)
    ]
    return unpickler.load()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """A pickler that leaves out the contents of storages."""

    PROTOCOL = 5

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, protocol=self.PROTOCOL, **named)
        self.storages: list[torch.UntypedStorage] = []
        self._places: dict[int, int] = {}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor) and _is_plain(obj):
            return self._reduce_tensor(obj)
        if isinstance(obj, torch.jit.ScriptModule | torch.jit.ScriptFunction):
            file = io.BytesIO()
            torch.jit.save(obj, file)
            return make_script, (file.getvalue(),)
        if isinstance(obj, torch.device) and obj.type == "cuda":
            return make_device, ()
        if isinstance(obj, torch.Generator):
            return make_generator, (obj.device, obj.get_state().numpy())
        if make_lock := _LOCKS.get(type(obj)):
            return make_lock, ()
        if isinstance(obj, nn.Module) and is_parametrized(obj):  # PyTorch gives it a class that refuses to be pickled
            return make_module, (type(obj),), dict(vars(obj)), None, None, set_attributes
        if (pretrained := _pretrained_class()) and isinstance(obj, pretrained):
            function, arguments, state = obj.__reduce_ex__(self.PROTOCOL)[:3]
            return function, arguments, state, None, None, set_pretrained
        if _is_global_of_main(obj):  # every rank runs the same script
            return getattr, (sys.modules["__main__"], obj.__qualname__)
        return super().reducer_override(obj)

    def _reduce_tensor(self, tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        place = self._places.setdefault(storage._cdata, len(self.storages))
        if place == len(self.storages):
            self.storages.append(storage)
        arguments = (
            place,
            tensor.dtype,
            tensor.storage_offset(),
            tuple(tensor.size()),
            tensor.stride(),
            isinstance(tensor, nn.Parameter),
            tensor.requires_grad,
        )
        return make_tensor, arguments, dict(vars(tensor)) or None, None, None, set_attributes


class _Unpickler(pickle.Unpickler):
    raws: list[torch.Tensor]
    device: torch.device

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name == make_tensor.__name__:
            return self._make_tensor
        if module == __name__ and name == make_device.__name__:
            return lambda: self.device
        return super().find_class(module, name)

    def _make_tensor(self, place: int, *arguments: Any) -> torch.Tensor:
        return make_tensor(self.raws[place], *arguments)


def make_tensor(
    raw: torch.Tensor,
    dtype: torch.dtype,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    is_parameter: bool,
    requires_grad: bool,
) -> torch.Tensor:
    """Make a tensor in the storage of `raw`."""
    tensor = torch.empty(0, dtype=dtype, device=raw.device).set_(raw.untyped_storage(), offset, size, stride)
    return nn.Parameter(tensor, requires_grad) if is_parameter else tensor.requires_grad_(requires_grad)


def make_script(content: bytes) -> Any:
    """Load a TorchScript module or function."""
    return torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]


def make_generator(device: torch.device, state: np.ndarray) -> torch.Generator:
    """Make a random number generator with this state, uint8."""
    generator = torch.Generator(device)
    generator.set_state(torch.from_numpy(state.copy()))
    return generator


def make_device() -> torch.device:
    """Stand for the rank's own GPU in a pickle; the unpickler replaces it."""
    raise AssertionError


def make_module(kind: type[nn.Module]) -> nn.Module:
    """Make a module without its attributes."""
    return kind.__new__(kind)


def set_attributes(thing: Any, attributes: dict[str, Any]) -> None:
    """Set the attributes of an object, or those added to a tensor."""
    vars(thing).update(attributes)


def set_pretrained(model: Any, state: Any) -> None:
    """Set the state of a Transformers model, and run the constructor of its class once.

    A table, filled by constructors, tells the classes where to capture outputs of inner layers.
    """
    model.__setstate__(state)
    if type(model) not in _BUILT:
        _BUILT.add(type(model))
        with parameters_on_meta(), contextlib.suppress(Exception):
            type(model)._from_config(model.config)


def _pretrained_class() -> Any:
    """Return the base class of all Transformers models; None where the library has not been imported."""
    return getattr(sys.modules.get("transformers.modeling_utils"), "PreTrainedModel", None)


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) in _PLAIN
        and tensor.layout is torch.strided
        and tensor.device.type in ("cpu", "cuda")
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
    )


def _is_global_of_main(thing: Any) -> bool:
    """Return whether an object is a class or function defined at the top level of the main script."""
    if getattr(thing, "__module__", None) != "__main__" or not isinstance(thing, type | type(_is_plain)):
        return False
    return getattr(sys.modules["__main__"], thing.__qualname__, None) is thing


def _raw(storage: torch.UntypedStorage) -> torch.Tensor:
    raw = torch.empty(0, dtype=torch.uint8, device=storage.device)
    return raw.set_(storage, 0, (storage.nbytes(),), (1,))


def _bytes_of(buffer: pickle.PickleBuffer) -> torch.Tensor:
    memory = buffer.raw()
    if not memory.nbytes:
        return torch.empty(0, dtype=torch.uint8)
    if memory.readonly:
        memory = memoryview(bytearray(memory))
    return torch.frombuffer(memory, dtype=torch.uint8)
