"""The backend of many ranks: Horovod over MPI for tensors, mpi4py for small objects.

Nothing else imports Horovod or mpi4py. Whoever waits, polls and sleeps: a blocking call of either library spins on a
core that a computing rank on the same host may need, and cannot be interrupted from Python.
"""

import contextlib
import functools
import socket
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

import torch

from runner.comm import Comm, wait
from runner.errors import RunnerError, UsageError, as_runner_error, describe, render
from runner.world import Launch, World, set_horovod_defaults, unbound

T = TypeVar("T")

# One broadcast: far below 2^31, the most elements one MPI call can count.
_PIECE_BYTES = 256 << 20
# One allgather, all ranks together: past 2^32 Horovod returns garbage and reports success.
_MAX_GATHER_BYTES = 1 << 30


class HorovodComm(Comm):
    """The ranks of an MPI job."""

    def __init__(self, launch: Launch, device: str) -> None:
        set_horovod_defaults(device)
        mpi = _load_mpi(launch)
        hvd = _load_horovod(mpi)
        # mpirun binds a rank to one core by itself. Horovod's thread must not share it: it spins there while it waits
        # for the other ranks, which between hosts has kept the start from ever ending.
        with unbound():
            hvd.init(comm=mpi.COMM_WORLD)
        if hvd.size() != launch.world_size:
            raise _shared(
                UsageError(
                    f"{launch.launcher} started {launch.world_size} ranks, but Horovod sees {hvd.size()}; "
                    "unset HOROVOD_CONTROLLER and the other HOROVOD_ variables of a former set-up"
                )
            )
        self._hvd = hvd
        self._mpi = mpi.COMM_WORLD.Dup()  # our own messages, apart from Horovod's
        self._ring = mpi.COMM_WORLD.Dup()  # signs of life
        self._beat_sent: Any = None
        self.world = World(
            rank=hvd.rank(),
            world_size=hvd.size(),
            local_rank=hvd.local_rank(),
            local_size=hvd.local_size(),
            host=socket.gethostname(),
            launcher=launch.launcher,
        )
        _abort_on_exception(self.world.who, mpi.COMM_WORLD)

    def bcast(self, value: T) -> T:
        self._barrier()
        received: T = self._mpi.bcast(value, root=0)
        return received

    def gather_all(self, value: T) -> list[T]:
        self._barrier()
        gathered: list[T] = self._mpi.allgather(value)
        return gathered

    def broadcast_(self, pieces: Sequence[torch.Tensor]) -> None:
        handles = [
            self._hvd.broadcast_async_(part, root_rank=0, name=f"weights.{i}.{j}")
            for i, piece in enumerate(pieces)
            for j, part in enumerate(torch.split(piece, _PIECE_BYTES))
            if len(part)
        ]
        for handle in handles:
            wait(functools.partial(self._hvd.poll, handle))
            self._hvd.synchronize(handle)

    def start_allgather(self, data: torch.Tensor) -> Any:
        return self._hvd.allgather_async(data, name="collect")

    def poll(self, handle: Any) -> bool:
        return bool(self._hvd.poll(handle))

    def result(self, handle: Any) -> torch.Tensor:
        try:
            gathered: torch.Tensor = self._hvd.synchronize(handle)
        except Exception as error:
            raise RunnerError(f"the other ranks cannot be reached any more: {describe(error)}") from error
        assert gathered.numel() <= _MAX_GATHER_BYTES, gathered.numel()
        return gathered

    def beat(self, state: str) -> list[str] | None:
        if self._beat_sent is None or self._beat_sent.Test():
            self._beat_sent = self._ring.isend(state, dest=(self.world.rank + 1) % self.world.world_size)
        return self._take_beats()

    def fail(self, error: RunnerError) -> None:
        if self.world.world_size == 1:
            return
        time.sleep(0.2 * min(self.world.rank, 10))  # when all fail alike, one message is enough: the first ends the job
        error.who = self.world.who
        print(render(error), file=sys.stderr, flush=True)
        sys.stdout.flush()
        self._mpi.Abort(error.exit_code)

    def close(self) -> None:
        self._barrier()  # the first rank to leave would shut Horovod down under the others
        self._take_beats()  # all have stopped to send: nothing is left on its way when MPI ends
        self._hvd.shutdown()  # its background thread takes CPU time for as long as it lives
        self._mpi.Free()
        self._ring.Free()

    def _take_beats(self) -> list[str]:
        source, beats = (self.world.rank - 1) % self.world.world_size, []
        while self._ring.iprobe(source=source):
            beats.append(self._ring.recv(source=source))
        return beats

    def _barrier(self) -> None:
        wait(self._mpi.Ibarrier().Test)


def _load_mpi(launch: Launch) -> Any:
    """mpi4py's MPI, started, and of the launcher's size."""
    if launch.launcher == "horovodrun --gloo":
        raise _shared(UsageError("started by horovodrun with Gloo; the runner needs MPI: horovodrun --mpi -np N ..."))
    try:
        from mpi4py import MPI
    except Exception as error:
        raise UsageError(f"mpi4py does not load ({describe(error)}); scripts/setup.sh installs it") from error
    if MPI.COMM_WORLD.Get_size() != launch.world_size:
        raise _shared(
            UsageError(
                f"{launch.launcher} started {launch.world_size} ranks, but MPI sees {MPI.COMM_WORLD.Get_size()} "
                f"(MPI library: {_library(MPI)}). Launcher and MPI library do not fit: use the mpirun of that library, "
                "or under Slurm srun --mpi=pmix"
            )
        )
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise _shared(
            UsageError(
                f"this MPI library ({_library(MPI)}) does not let several threads call it (MPI_THREAD_MULTIPLE), "
                "which Horovod beside mpi4py needs; use one that is built so"
            )
        )
    return MPI


def _load_horovod(mpi: Any) -> Any:
    """Horovod's PyTorch module on all ranks, or the same error on all."""
    outcome: Any = None
    try:
        # mpi4py has been imported before, and so owns MPI: only then can Horovod start again after a shutdown
        import horovod.torch as hvd
    except Exception as error:
        outcome = UsageError(
            f"Horovod does not load on {socket.gethostname()} ({describe(error)}; MPI library: {_library(mpi)}). "
            "scripts/setup.sh builds Horovod 0.28.1 against the MPI on PATH; both must be of the same MPI"
        )
    for found in mpi.COMM_WORLD.allgather(outcome):
        if found is not None:
            raise _shared(found)
    return hvd


def _shared(error: RunnerError) -> RunnerError:
    error.shared = True
    return error


def _abort_on_exception(who: str, mpi_comm: Any) -> None:
    """Make an exception that ends this process end the job: other ranks would wait for this one for ever.

    It stays for the life of the process, because the script that called us may still fail between two jobs.
    """
    former_hook = sys.excepthook
    if getattr(former_hook, "ends_the_job", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        with contextlib.suppress(Exception):
            former_hook(kind, error, trace)
        print(f"runner: error [{who}]: an exception ended this rank, and with it the job", file=sys.stderr, flush=True)
        mpi_comm.Abort(as_runner_error(error).exit_code)

    hook.ends_the_job = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def _library(mpi: Any) -> str:
    return str(mpi.Get_library_version()).split(",")[0].split("\n")[0].strip("\0 ")
