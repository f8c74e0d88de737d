"""Findings that follow from the facts of the ranks, without measurements."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from runner.commands.doctor.facts import Facts
from runner.commands.doctor.finding import OK, WARNING, WRONG, Finding, name_some
from runner.host.devices import shared_gpus

_MIB, _GIB = 1 << 20, 1 << 30
_LEAST_MEMORY = _GIB  # bytes; a rank takes a quarter of this before it does anything
_LEAST_SHARED_MEMORY = 16 * _MIB  # bytes for each rank: Open MPI's need in /dev/shm, with some margin


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
    says = f"{_count(len(facts), 'rank')} on {_count(len(hosts), 'host')}: " + name_some(
        f"{count} on {host}" for host, count in hosts.items()
    )
    if len(set(hosts.values())) == 1:
        return Finding("ranks", OK, says)
    return Finding(
        "ranks",
        WARNING,
        f"{says}: not as many on each",
        "where that is not meant: --ntasks-per-node for Slurm, slots= in a hostfile",
    )


def _software(facts: Sequence[Facts]) -> Finding:
    first = facts[0].software
    for name in first:
        found = {rank.software[name] for rank in facts}
        if len(found) > 1:
            where = "; ".join(f"{version} on {name_some(_who(facts, name, version))}" for version in sorted(found))
            return Finding(
                "software",
                WRONG,
                f"{name} is not the same on all ranks: {where}",
                "let all use one virtual environment and one checkout, on a file system that all hosts share",
            )
    return Finding("software", OK, "the same on all ranks: " + ", ".join(f"{k} {v}" for k, v in first.items()))


def _who(facts: Sequence[Facts], name: str, version: str) -> list[str]:
    return [rank.who for rank in facts if rank.software[name] == version]


def _mpi(facts: Sequence[Facts]) -> list[Finding]:
    if several := [rank for rank in facts if len(rank.mpi_files) > 1]:
        return [
            Finding(
                "MPI",
                WRONG,
                f"{several[0].who} has loaded several MPI libraries: {', '.join(several[0].mpi_files)}. Horovod and "
                "mpi4py were built with different ones",
                "unload the modules of other MPIs, empty LD_PRELOAD and LD_LIBRARY_PATH of them, and run "
                "scripts/setup.sh again",
            )
        ]
    names = {rank.mpi for rank in facts}
    if len(names) > 1:
        where = "; ".join(f"{mpi} on {name_some(r.who for r in facts if r.mpi == mpi)}" for mpi in sorted(names))
        return [Finding("MPI", WRONG, f"not the same library on all ranks: {where}", "load one module on all hosts")]
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
    if says := shared_gpus([(rank.who, rank.gpu) for rank in facts]):
        return Finding(
            "GPUs",
            WRONG,
            says,
            "start as many ranks a host as it has GPUs; in Slurm --gpus-per-task=1 with srun, or --gpus-per-node; "
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
            limit = f" (its control group allows {quota:g} at a time)" if quota and quota < len(cpus) else ""
            findings.append(
                Finding(
                    "CPUs",
                    WARNING,
                    f"{host}: {_count(len(ranks), 'rank')} with {threads} threads together, on "
                    f"{_count(len(cpus), 'CPU')}{limit}",
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
                    f"{host}: {together} have {_count(len(cpus), 'CPU')} between them",
                    "mpirun --bind-to none, or fewer ranks on a host",
                )
            )
    if findings:
        return findings
    of_a_rank = sorted({len(rank.cpus) for rank in facts})
    threads_of_a_rank = sorted({rank.threads for rank in facts})
    says = f"a rank may run on {_range(of_a_rank)} CPUs and computes with {_range(threads_of_a_rank)} threads"
    return [Finding("CPUs", OK, says)]


def _memory(facts: Sequence[Facts]) -> Finding:
    by_host = _by_host(facts)
    least = min(by_host, key=lambda host: by_host[host][0].memory_bytes / len(by_host[host]))
    ranks = by_host[least]
    a_rank = min(rank.memory_bytes for rank in ranks) // len(ranks)
    says = f"{a_rank / _GIB:.1f} GiB free for each of {_count(len(ranks), 'rank')} on {least}, the least of the hosts"
    figures = {"bytes_a_rank": a_rank}
    if a_rank < _LEAST_MEMORY:
        return Finding("memory", WARNING, says, "ask for more memory, or fewer ranks on a host", figures)
    return Finding("memory", OK, says, figures=figures)


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
                    f"{name_some(sorted(hosts))} all have the address {address} (docker0 is like that): MPI may try "
                    "to reach another host by it, and wait for ever",
                    f"name the interface that joins the hosts, such as: mpirun --mca btl_tcp_if_include {good} "
                    f"--prtemca prte_if_include {good} (Open MPI 4: --mca oob_tcp_if_include); horovodrun "
                    f"--network-interface {good}",
                )
            )
    shared = {host: min(rank.shared_memory_bytes for rank in ranks) / len(ranks) for host, ranks in by_host.items()}
    for host, free in shared.items():
        if free < _LEAST_SHARED_MEMORY and len(by_host[host]) > 1:
            findings.append(
                Finding(
                    "network",
                    WARNING,
                    f"{host}: /dev/shm has {free / _MIB:.0f} MiB a rank free, through which MPI sends on a host: "
                    "with too little it is slow, or ranks die of signal 7 (bus error)",
                    "remove what is left in /dev/shm, or make it larger (containers: --shm-size, or an emptyDir of "
                    "medium Memory)",
                )
            )
    if locked := [rank.who for rank in facts if not rank.locks_memory]:
        findings.append(
            Finding(
                "network",
                WARNING,
                f"{name_some(locked)}: an InfiniBand adapter is there, but memory may not be locked (ulimit -l), "
                "without which MPI falls back to TCP or fails",
                "ulimit -l unlimited in the batch script, or the site's administrators",
            )
        )
    says = name_some(f"{rank.host}: {_addresses(rank)}" for rank in facts)
    return findings or [Finding("network", OK, says)]


def _addresses(rank: Facts) -> str:
    return " ".join(f"{name} {address}" for name, address in rank.addresses.items()) or "loopback alone"


def _by_host(facts: Sequence[Facts]) -> dict[str, list[Facts]]:
    hosts: dict[str, list[Facts]] = {}
    for rank in facts:
        hosts.setdefault(rank.host, []).append(rank)
    return hosts


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def as_plain(facts: Sequence[Facts]) -> list[dict[str, object]]:
    """Return the facts as dicts, for JSON."""
    return [dataclasses.asdict(rank) for rank in facts]
