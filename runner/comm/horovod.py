"""Backend of many ranks: Horovod over MPI for tensors, mpi4py for small objects. Nothing else imports Horovod."""

import functools
import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from runner.comm import Round, wait
from runner.comm.library import library_name, load_mpi
from runner.comm.mpi import MpiComm
from runner.comm.pieces import parts_of
from runner.core.errors import RunnerError, UsageError, describe, shared
from runner.host.cpus import unbound
from runner.host.launch import Launch, loaded_libraries, read_variables, set_horovod_defaults

# One round, all ranks together: past 2^32 Horovod returns garbage and reports success.
_MAX_ROUND_BYTES = 1 << 30
# Horovod notes some ten events a round, and one a rank; it stops after so many, as its file would grow without end.
_MOST_EVENTS = 200_000
_EVENTS_A_ROUND = 12
_CONTROLLER = "HOROVOD_CONTROLLER"


class HorovodComm(MpiComm):
    """The ranks of an MPI job, with Horovod.

    Args:
        launch: what the launcher said.
        collect: one of `COLLECT_MODES`, by which the pieces of a round go to rank 0 alone or to all ranks.
        device: "cpu" or "cuda", what the ranks compute on.
        some, name: as `MpiComm` has them.
    """

    def __init__(self, launch: Launch, collect: str, device: str, some: Any = None, name: str = "") -> None:
        set_horovod_defaults(device)
        mpi = load_mpi(launch)
        ranks = some or mpi.COMM_WORLD
        hvd = _load_horovod(mpi, ranks)
        # mpirun binds a rank to one core by itself. Horovod's thread must not share it: it spins there while it waits
        # for the other ranks, which between hosts has kept the start from ever ending.
        with unbound():
            hvd.init(comm=ranks)
        if hvd.size() != ranks.Get_size():
            raise shared(
                UsageError(
                    f"{launch.launcher} started {ranks.Get_size()} ranks, but Horovod sees {hvd.size()}; unset the "
                    "HOROVOD_ variables of an earlier setup"
                )
            )
        self._hvd = hvd
        self._rounds_in_timeline = _MOST_EVENTS // (_EVENTS_A_ROUND + launch.world_size)
        super().__init__(launch, collect, some, name)

    def _broadcast(self, pieces: Sequence[torch.Tensor]) -> None:
        handles = [
            self._hvd.broadcast_async_(part, root_rank=0, name=f"weights.{i}")
            for i, part in enumerate(parts_of(pieces))
        ]
        for handle in handles:
            wait(functools.partial(self._hvd.poll, handle))
            self._hvd.synchronize(handle)

    def stop_timeline(self) -> bool:
        """Stop Horovod's own timeline, if it keeps one, to complete its file; return whether it had stopped before."""
        self._hvd.stop_timeline()
        return self._rounds_in_timeline <= 0

    def start_round(self, header: bytes, parts: Sequence[memoryview]) -> Round:
        self._rounds_in_timeline -= 1
        if self._rounds_in_timeline == 0:
            self.stop_timeline()
        size = sum(map(len, parts))
        head = size.to_bytes(8) + header  # of the piece that follows
        if not self._to_root_alone:
            data = torch.from_numpy(self._outgoing.fill([head, *parts]))
            return _HorovodRound(self._hvd, self._hvd.allgather_async(data, name="collect"), len(head), True)
        num_others = self.world.world_size - 1
        data = torch.from_numpy(self._outgoing.fill([head, *parts, *[head] * num_others]))
        splits = torch.tensor([len(head) + size] + [len(head)] * num_others, dtype=torch.int32)
        handle = self._hvd.alltoall_async(data, splits=splits, name="collect")
        return _HorovodRound(self._hvd, handle, len(head), self.world.rank == 0)

    def close(self) -> None:
        self._barrier()  # the first rank to leave would shut Horovod down under the others
        self._hvd.shutdown()  # its background thread takes CPU time for as long as it lives
        super().close()


class _HorovodRound(Round):
    """Collective that brings each rank's head, followed by the rank's piece where `has_pieces`."""

    def __init__(self, hvd: Any, handle: Any, head_bytes: int, has_pieces: bool) -> None:
        self._hvd = hvd
        self._handle = handle
        self._head_bytes = head_bytes
        self._has_pieces = has_pieces

    def done(self) -> bool:
        return bool(self._hvd.poll(self._handle))

    def result(self) -> list[tuple[bytes, np.ndarray]]:
        try:
            received = self._hvd.synchronize(self._handle)
        except Exception as error:
            raise RunnerError(f"lost the connection to the other ranks: {describe(error)}") from error
        data = (received[0] if isinstance(received, tuple) else received).numpy()
        assert len(data) <= _MAX_ROUND_BYTES, len(data)
        gathered = []
        position = 0
        while position < len(data):
            body = position + self._head_bytes
            size = int.from_bytes(data[position : position + 8].tobytes()) if self._has_pieces else 0
            gathered.append((data[position + 8 : body].tobytes(), data[body : body + size]))
            position = body + size
        return gathered


def _load_horovod(mpi: Any, ranks: Any) -> Any:
    """Load Horovod's PyTorch module on all ranks, or raise the same error on all."""
    outcome: Any = None
    try:
        # mpi4py has been imported before, and so owns MPI: only then can Horovod start again after a shutdown
        import horovod.torch as hvd
    except Exception as error:
        outcome = UsageError(
            f"Horovod does not load on {socket.gethostname()} ({describe(error)}; MPI library: {library_name(mpi)}). "
            "scripts/setup.sh builds Horovod 0.28.1 against the MPI on PATH; both must be of the same MPI. --comm mpi "
            "works without Horovod"
        )
    if not outcome and len(files := loaded_libraries("libmpi")) > 1:  # the start would end in an abort, without a word
        outcome = UsageError(
            f"Horovod and mpi4py on {socket.gethostname()} have loaded several MPI libraries: {', '.join(files)}. "
            "Unload the modules of other MPIs, unset MPI4PY_LIBMPI, and run scripts/setup.sh again; --comm mpi works "
            "without Horovod"
        )
    controller = read_variables([_CONTROLLER]).get(_CONTROLLER, "mpi")
    if not outcome and controller.lower() != "mpi":  # Horovod may crash for it
        outcome = UsageError(f"{_CONTROLLER}={controller}: the runner needs Horovod over MPI; unset {_CONTROLLER}")
    for failure in ranks.allgather(outcome):
        if failure is not None:
            raise shared(failure)
    return hvd
