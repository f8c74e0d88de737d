"""Messages from the leader of a group to its members: objects and tensors, by torch.distributed.

PyTorch's own collectives carry the messages, as they carry the exchange between parts of a split model: each group is a
separate world of torch.distributed, whose ranks are the places in the group. They meet at an address sent by MPI.
"""

import io
import pickle
import socket
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from runner.comm import Comm
from runner.comm.groups import Groups
from runner.comm.pieces import as_bytes
from runner.core.errors import RunnerError, UsageError, describe
from runner.host.environment import set_default
from runner.host.launch import own_addresses

# A member may wait long, while the leader reads rows or waits for a disk; the watchdog ends a job that hangs.
_PATIENCE = timedelta(days=365)
_CONNECT_SECONDS = 5.0
_LET_OTHERS_SPEAK_SECONDS = 10.0
_LOOPBACK = {"lo": "127.0.0.1"}


class Channel:
    """The message channel of one group; every rank of the job makes one at the same point.

    Args:
        comm: all ranks.
        groups: the partition of the ranks into groups.
        device: device of this rank.

    Attributes:
        mesh: the ranks that hold a stage together with this one, for PyTorch's distributed tensors.
        place: index of this rank in its group.

    Raises:
        UsageError: a member cannot reach its leader.
    """

    def __init__(self, comm: Comm, groups: Groups, device: torch.device) -> None:
        rank = comm.world.rank
        self.place = groups.place(rank)
        store = _meet(comm, groups)
        backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, store=store, rank=self.place, world_size=groups.size, timeout=_PATIENCE)
        shape = (groups.stages, groups.tensor_size)
        self.mesh: DeviceMesh = init_device_mesh(device.type, shape, mesh_dim_names=("stages", "tensor"))["tensor"]

    def send(self, what: Any) -> None:
        """Send an object from the leader to all members: anything that can be pickled, with its tensors on the CPU."""
        pickled = io.BytesIO()
        pickler = _Pickler(pickled)
        pickler.dump(what)
        specs = [(tuple(tensor.shape), tensor.dtype) for tensor in pickler.tensors]
        header = pickle.dumps((specs, pickled.getvalue()))
        dist.broadcast(torch.tensor([len(header)]), 0)
        dist.broadcast(torch.frombuffer(bytearray(header), dtype=torch.uint8), 0)
        for tensor in pickler.tensors:
            dist.broadcast(as_bytes(tensor), 0)

    def receive(self) -> Any:
        """Wait, on a member, for the leader's next object and return it."""
        length = torch.zeros(1, dtype=torch.int64)
        try:
            dist.broadcast(length, 0)
        except RuntimeError as error:
            time.sleep(_LET_OTHERS_SPEAK_SECONDS)  # the rank at fault reports the error first, and ends the job
            raise RunnerError(f"lost the connection to the first rank of its group: {describe(error)}") from error
        header = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(header, 0)
        specs, pickled = pickle.loads(header.numpy().tobytes())
        tensors = [torch.empty(shape, dtype=dtype) for shape, dtype in specs]
        for tensor in tensors:
            dist.broadcast(as_bytes(tensor), 0)
        return _Unpickler(io.BytesIO(pickled), tensors).load()

    def count(self, is_so: bool) -> int:
        """Return for how many members of the group the flag is true; every member calls this."""
        total = torch.tensor([int(is_so)])
        dist.all_reduce(total)
        return int(total)

    def close(self) -> None:
        """Leave the group; every member calls this."""
        with suppress(Exception):  # the other ranks of the group may be gone
            dist.destroy_process_group()


class _Pickler(pickle.Pickler):
    """A pickler that leaves out tensors, which are sent separately."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[torch.Tensor] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, torch.Tensor):
            return None
        self.tensors.append(value.contiguous())
        return len(self.tensors) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, tensors: list[torch.Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, index: Any) -> torch.Tensor:
        tensor: torch.Tensor = self._tensors[index]
        return tensor


def _meet(comm: Comm, groups: Groups) -> Any:
    """Return a store for the group, in its leader's memory."""
    rank = comm.world.rank
    hosts = comm.gather_all(comm.world.host)
    leader = rank - groups.place(rank)
    is_one_host = len(set(hosts[leader : leader + groups.size])) == 1
    own = _LOOPBACK if is_one_host else own_addresses()
    listening = None
    if leader == rank:
        listening = TCPStore(hosts[rank], 0, groups.size, is_master=True, wait_for_workers=False)
    offers = comm.gather_all((own, listening.port if listening else 0))
    offered, port = offers[leader]
    reached = comm.on_each(lambda: "" if leader == rank else _reach(offered, port, hosts[leader]))
    by_member = comm.gather_all(reached)[leader + 1 : leader + groups.size]
    address = by_member[0] if leader == rank else reached
    # Gloo takes the interface that the host's name resolves to, which other hosts may not reach
    interface = next((name for name, each in own.items() if each == address), None)
    if leader != rank and not is_one_host:
        interface = _interface_to(address, port)
    if interface:
        set_default("GLOO_SOCKET_IFNAME", interface)
    return listening or TCPStore(address, port, groups.size, is_master=False)


def _reach(offered: dict[str, str], port: int, host: str) -> str:
    """Return the first address at which the leader answers."""
    for address in offered.values():
        with suppress(OSError), socket.create_connection((address, port), _CONNECT_SECONDS):
            return address
    raise UsageError(
        f"the ranks of a --model-parallel group cannot connect: {host} does not answer at "
        f"{', '.join(offered.values())}, port {port}. Keep the ranks of a group on one host, or open that network"
    )


def _interface_to(address: str, port: int) -> str | None:
    """Return the network interface of this host that leads to an address."""
    with socket.create_connection((address, port), _CONNECT_SECONDS) as connection:
        own = connection.getsockname()[0]
    return next((name for name, each in own_addresses().items() if each == own), None)
