"""Findings about this host that are told before the ranks connect, as they may keep them from it."""

import socket
from pathlib import Path

from runner.commands.doctor.finding import WARNING, Finding
from runner.host.isolation import isolated_ranks
from runner.host.launch import Launch, own_addresses, read_variables

_BRIDGES = ("docker", "virbr", "lxcbr", "podman", "cni")  # of Docker, libvirt, LXC, Podman, Kubernetes
_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")  # of Open MPI, MPICH and Intel MPI


def look_around(launch: Launch) -> list[Finding]:
    """Return findings that need no other rank."""
    findings = []
    if isolated := isolated_ranks():
        what, fix = isolated.split(": ", 1)
        findings.append(Finding("MPI", WARNING, what, fix))
    sizes = [int(size) for size in read_variables(_LOCAL_SIZES).values() if size.isdecimal()]
    if launch.world_size == 1 or launch.world_size in sizes:  # one host
        return findings
    if (name := socket.gethostname()).partition(".")[0] == "localhost":
        findings.append(
            Finding(
                "ranks",
                WARNING,
                f"this host is called {name}. If other hosts of the job are, too, MPI takes them for one, and ends or "
                "hangs now",
                "give each host a name of its own: hostnamectl set-hostname NAME",
            )
        )
    return [*findings, *_bridges()]


def _bridges() -> list[Finding]:
    """Find the addresses of bridges, which MPI takes for a way to other hosts."""
    addresses = own_addresses()
    bridges = [
        name for name in addresses if name.startswith(_BRIDGES) or Path(f"/sys/class/net/{name}/bridge").is_dir()
    ]
    if not bridges:
        return []
    words = ", ".join(f"{name} {addresses[name]}" for name in bridges)
    good = next((name for name in addresses if name not in bridges), "eth0")
    return [
        Finding(
            "network",
            WARNING,
            f"{words}: a bridge inside this host (Docker's, libvirt's). If other hosts have the same address, MPI may "
            "take it for the way to them, and end or hang now",
            name_interface(good),
        )
    ]


def name_interface(good: str) -> str:
    """Return the advice to name the interface of a host that reaches the others."""
    return (
        f"name the interface that connects the hosts, such as: mpirun --mca btl_tcp_if_include {good} --prtemca "
        f"prte_if_include {good} (Open MPI 4: --mca oob_tcp_if_include); horovodrun --network-interface {good}"
    )
