"""CPUs of this process, and its fair share of them in threads."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from runner.core.limits import cpu_quotas
from runner.host.allocation import slurm_cpus
from runner.host.scheduler import in_slurm_job

# Under these, OpenMP binds the thread that loads PyTorch to the first of the CPUs, on every rank of a host the same.
_BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
_AT_START = frozenset(os.sched_getaffinity(0))  # before PyTorch is imported, unless a program did so already


@dataclass(frozen=True)
class CpuShare:
    """CPUs of a host that a rank may use.

    Attributes:
        host: name of the host.
        cpus: numbers of the CPUs.
        quotas: see `cpu_quotas` and `slurm_cpus`.
    """

    host: str
    cpus: frozenset[int]
    quotas: Mapping[str, float]

    @property
    def most(self) -> float:
        """How many CPUs it may use at a time, were there no other ranks."""
        return min([len(self.cpus), *self.quotas.values()])


def cpu_share(host: str) -> CpuShare:
    """Return the share of this process."""
    return CpuShare(host, usable_cpus(), cpu_quotas() | (slurm_cpus() if in_slurm_job() else {}))


def usable_cpus() -> frozenset[int]:
    """Return the CPUs that this process may run on, were it not for OpenMP, which may have bound its main thread."""
    now = frozenset(os.sched_getaffinity(0))
    return _AT_START if now < _AT_START and _bindings() else now


def fair_threads(own: CpuShare, ranks: Sequence[CpuShare]) -> int:
    """Return the CPU threads of one rank: of a CPU, or of a quota of CPUs, that k ranks share, each has 1/k.

    Args:
        own: the share of the rank.
        ranks: the shares of all ranks, this one included.
    """
    local = [rank for rank in ranks if rank.host == own.host]
    threads = sum(1 / sum(cpu in other.cpus for other in local) for cpu in own.cpus)
    quotas = (amount / sum(group in other.quotas for other in local) for group, amount in own.quotas.items())
    return max(1, int(min([threads, *quotas]) + 1e-9))


def requested_threads(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the user's OMP_NUM_THREADS if it is a plain number, else None."""
    value = environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdecimal() and int(value) > 0 else None


@contextmanager
def unbound() -> Iterator[None]:
    """Let threads that are started inside run on any CPU of this job, whatever core the launcher bound the rank to."""
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the kernel clips it to the job's control group
        yield
    finally:
        os.sched_setaffinity(0, own)


def prevent_binding() -> str:
    """Keep OpenMP from binding threads to CPUs, where PyTorch is not loaded yet, and undo what it has done before.

    Several ranks of a host would be bound to the same CPUs, and so would reading and collection be, to that of the
    main thread.

    Returns:
        A warning, where worker threads may be bound already; else an empty string.
    """
    names = _bindings()
    if not names:
        return ""
    if "torch" not in sys.modules:
        for name in names:
            del os.environ[name]
        return ""
    os.sched_setaffinity(0, usable_cpus())
    return (
        f"{' and '.join(names)} bound threads to CPUs when PyTorch was imported, those of all ranks of a host to the "
        "same. Unset it, or import runner before PyTorch"
    )


def _bindings() -> list[str]:
    return [name for name in _BINDING if os.environ.get(name, "false").lower() not in ("", "false", "disabled", "none")]
