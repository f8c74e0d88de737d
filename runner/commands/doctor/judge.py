"""Findings that follow from the facts of the ranks, without measurements."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from runner.commands.doctor.early import name_interface
from runner.commands.doctor.facts import Facts
from runner.commands.doctor.finding import OK, WARNING, WRONG, Finding
from runner.core.text import byte_size, name_some, plural
from runner.host.devices import shared_gpus
from runner.host.versions import Software, name_differences

_LEAST_MEMORY = 1 << 30  # bytes; a rank takes a quarter of this before it does anything
_LEAST_SHARED_MEMORY = 16 << 20  # bytes for each rank: Open MPI's need in /dev/shm, with some margin


def judge(facts: Sequence[Facts]) -> list[Finding]:
    """Return all findings that need no measurement, from the facts by rank."""
    return [
        _ranks(facts),
        _software(facts),
        *_mpi(facts),
        _gpus(facts),
        *_cpus(facts),
        _memory(facts),
        *_network(facts),
    ]


def _ranks(facts: Sequence[Facts]) -> Finding:
    hosts = Counter(rank.host for rank in facts)
    message = f"{plural(len(facts), 'rank')} on {plural(len(hosts), 'host')}: " + name_some(
        f"{count} on {host}" for host, count in hosts.items()
    )
    if len(set(hosts.values())) == 1:
        return Finding("ranks", OK, message)
    return Finding(
        "ranks",
        WARNING,
        f"{message}: not as many on each",
        "if this is not intended, set --ntasks-per-node for Slurm or slots= in a hostfile",
    )


def _software(facts: Sequence[Facts]) -> Finding:
    if differences := name_differences([Software(rank.who, rank.host, rank.software) for rank in facts]):
        return Finding(
            "software",
            WRONG,
            f"not the same on all ranks: {differences}",
            "use one virtual environment and one checkout, on a file system that all hosts share",
        )
    return Finding(
        "software", OK, "the same on all ranks: " + ", ".join(f"{k} {v}" for k, v in facts[0].software.items())
    )


def _mpi(facts: Sequence[Facts]) -> list[Finding]:
    if several := [rank for rank in facts if len(rank.mpi_files) > 1]:
        return [
            Finding(
                "MPI",
                WRONG,
                f"{several[0].who} has loaded several MPI libraries: {', '.join(several[0].mpi_files)}. Horovod and "
                "mpi4py were built with different ones",
                "unload the modules of other MPIs, remove them from LD_PRELOAD and LD_LIBRARY_PATH, and run "
                "scripts/setup.sh again",
            )
        ]
    names = {rank.mpi for rank in facts}
    if len(names) > 1:
        where = "; ".join(f"{mpi} on {name_some(r.who for r in facts if r.mpi == mpi)}" for mpi in sorted(names))
        return [Finding("MPI", WRONG, f"not the same library on all ranks: {where}", "load one module on all hosts")]
    for rank in facts:
        if rank.mpi_files and rank.horovod_mpi and not Path(rank.mpi_files[0]).name.startswith(rank.horovod_mpi):
            return [
                Finding(
                    "MPI",
                    WARNING,
                    f"{rank.who} uses {rank.mpi} ({rank.mpi_files[0]}), while Horovod there was built with another "
                    f"MPI, {rank.horovod_mpi}",
                    "give --comm mpi to jobs, too, or load the modules with which scripts/setup.sh built Horovod",
                )
            ]
    if facts[0].mpi:
        files = name_some(file for rank in facts for file in rank.mpi_files)
        return [Finding("MPI", OK, f"{facts[0].mpi} everywhere, one library in each process ({files})")]
    return [Finding("MPI", OK, "not used by one rank alone; put mpirun, horovodrun or srun before this to check it")]


def _gpus(facts: Sequence[Facts]) -> Finding:
    kinds = {bool(rank.gpu) for rank in facts}
    if kinds == {False}:
        return Finding("GPUs", OK, "none: all ranks compute on the CPU")
    if kinds == {True, False}:
        without = name_some(rank.who for rank in facts if not rank.gpu)
        return Finding("GPUs", WRONG, f"no GPU for {without}, while other ranks have one", "ask for GPUs on all hosts")
    if message := shared_gpus([(rank.who, rank.gpu) for rank in facts]):
        return Finding(
            "GPUs",
            WRONG,
            message,
            "start as many ranks per host as it has GPUs; in Slurm --gpus-per-task=1 with srun, or --gpus-per-node; "
            "unset CUDA_VISIBLE_DEVICES where all ranks inherit the same",
        )
    return Finding("GPUs", OK, "each rank has its own: " + name_some(f"{rank.who}: {rank.gpu}" for rank in facts))


def _cpus(facts: Sequence[Facts]) -> list[Finding]:
    """Find, on each host, more threads than CPUs, and ranks on the same few CPUs while others are idle."""
    findings = []
    for host, ranks in _by_host(facts).items():
        cpus = set().union(*(rank.cpus for rank in ranks))
        quota = min((rank.cpu_quota for rank in ranks if rank.cpu_quota), default=None)
        usable = min(float(len(cpus)), quota or float("inf"))
        threads = sum(rank.threads for rank in ranks)
        if threads > max(usable, len(ranks)):
            limit = f" (its control group or Slurm allows {quota:g} at a time)" if quota and quota < len(cpus) else ""
            findings.append(
                Finding(
                    "CPUs",
                    WARNING,
                    f"{host}: {plural(len(ranks), 'rank')} with {plural(threads, 'thread')} together, on "
                    f"{plural(len(cpus), 'CPU')}{limit}",
                    "unset OMP_NUM_THREADS, give --threads, or ask for more CPUs: --cpus-per-task for Slurm (and "
                    "export SRUN_CPUS_PER_TASK)",
                )
            )
        elif len(ranks) > len(cpus):
            together = name_some(rank.who for rank in ranks)
            findings.append(
                Finding(
                    "CPUs",
                    WARNING,
                    f"{host}: {together} have {plural(len(cpus), 'CPU')} between them",
                    "mpirun --bind-to none, or fewer ranks on a host",
                )
            )
    if findings:
        return findings
    of_a_rank = sorted({len(rank.cpus) for rank in facts})
    threads_of_a_rank = sorted({rank.threads for rank in facts})
    message = f"CPUs per rank: {_range(of_a_rank)}; threads per rank: {_range(threads_of_a_rank)}"
    return [Finding("CPUs", OK, message)]


def _memory(facts: Sequence[Facts]) -> Finding:
    by_host = _by_host(facts)
    least = min(by_host, key=lambda host: by_host[host][0].memory_bytes / len(by_host[host]))
    ranks = by_host[least]
    a_rank = min(rank.memory_bytes for rank in ranks) // len(ranks)
    limit = min((rank.memory_limit for rank in ranks if rank.memory_limit), default=None)
    message = f"{byte_size(a_rank)} free for each of {plural(len(ranks), 'rank')} on {least}, the least of the hosts"
    if limit:
        message += f" (its control group allows {byte_size(limit)})"
    figures = {"bytes_a_rank": a_rank}
    if a_rank < _LEAST_MEMORY:
        return Finding("memory", WARNING, message, "ask for more memory, or fewer ranks on a host", figures)
    return Finding("memory", OK, message, figures=figures)


def _network(facts: Sequence[Facts]) -> list[Finding]:
    findings = []
    by_host = _by_host(facts)
    owners: dict[str, set[str]] = {}
    for rank in facts:
        for interface, address in rank.addresses.items():
            owners.setdefault(f"{interface} {address}", set()).add(rank.host)
    for address, hosts in owners.items():
        if len(hosts) > 1:
            good = next((i for i, a in facts[0].addresses.items() if len(owners[f"{i} {a}"]) == 1), "eth0")
            findings.append(
                Finding(
                    "network",
                    WARNING,
                    f"{name_some(sorted(hosts))} all have the address {address} (as docker0 does): MPI may try to "
                    "reach another host through it, and hang",
                    name_interface(good),
                )
            )
    shared = {host: min(rank.shared_memory_bytes for rank in ranks) / len(ranks) for host, ranks in by_host.items()}
    for host, free in shared.items():
        if free < _LEAST_SHARED_MEMORY and len(by_host[host]) > 1:
            findings.append(
                Finding(
                    "network",
                    WARNING,
                    f"{host}: /dev/shm has {byte_size(free)} per rank free, which MPI uses between the ranks of a "
                    "host: with too little, it is slow or ranks die of signal 7 (bus error)",
                    "remove leftover files in /dev/shm, or enlarge it (containers: --shm-size, or an emptyDir of "
                    "medium Memory)",
                )
            )
    if locked := [rank.who for rank in facts if not rank.locks_memory]:
        findings.append(
            Finding(
                "network",
                WARNING,
                f"{name_some(locked)}: an InfiniBand adapter is present, but memory may not be locked (ulimit -l): MPI "
                "falls back to TCP or fails",
                "set ulimit -l unlimited in the batch script, or ask the site's administrators",
            )
        )
    message = name_some(f"{rank.host}: {_addresses(rank)}" for rank in facts)
    return findings or [Finding("network", OK, message)]


def _addresses(rank: Facts) -> str:
    return " ".join(f"{name} {address}" for name, address in rank.addresses.items()) or "loopback alone"


def _by_host(facts: Sequence[Facts]) -> dict[str, list[Facts]]:
    hosts: dict[str, list[Facts]] = {}
    for rank in facts:
        hosts.setdefault(rank.host, []).append(rank)
    return hosts


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def as_plain(facts: Sequence[Facts]) -> list[dict[str, object]]:
    """Return the facts as dicts, for JSON."""
    return [dataclasses.asdict(rank) for rank in facts]
