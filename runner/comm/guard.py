"""Guard against a hang at the start of a job: while MPI starts, a process beside this one watches the time.

A process and not a thread: MPI starts while Python's lock is held, and no thread of this process can run.
"""

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from runner.host.launch import Launch, own_addresses
from runner.host.stop import SIGNALS


@contextmanager
def guarded_start(launch: Launch, seconds: float) -> Iterator[None]:
    """End this process, with a message, if the `with` block takes longer; the launcher then ends the other ranks."""
    read, write = os.pipe()
    process = os.getpid()
    child = os.fork()
    if not child:
        os.close(write)
        # messages of all ranks would be noise: the first whose time is up ends the job
        _watch(read, process, launch, seconds, late_seconds=3 + 0.2 * min(launch.rank, 20) if launch.rank else 0)
    try:
        yield
    finally:
        os.close(write)  # tells the child to end
        os.close(read)
        os.waitpid(child, 0)


def _watch(read: int, process: int, launch: Launch, seconds: float, late_seconds: float) -> NoReturn:
    """Wait for the end of the start or the timeout; a forked process, it takes no lock that a thread may have held."""
    for number in SIGNALS:  # a handler of this process's would tell of them once more
        signal.signal(number, signal.SIG_IGN)
    if not select.select([read], [], [], seconds + late_seconds)[0]:
        os.write(2, _message(launch, seconds).encode())
        time.sleep(0.1)  # output that the launcher has not read yet may be lost
        os.kill(process, signal.SIGKILL)
    os._exit(0)


def _message(launch: Launch, seconds: float) -> str:
    addresses = ", ".join(f"{name} {address}" for name, address in own_addresses().items()) or "none"
    return (
        f"runner: error [rank {launch.rank} of {launch.world_size} on {socket.gethostname()}]: the other ranks did not "
        f"connect within {seconds:g} s (--stall-timeout). Either a rank did not start (see the lines above), or the "
        "hosts cannot reach each other: a firewall, an interface that does not connect them, or hosts of one name "
        f"({socket.gethostname()}), as copies of one machine have. Addresses of this host: {addresses}. Name the "
        "interface that connects the hosts, such as: mpirun --mca btl_tcp_if_include eth0 --prtemca prte_if_include "
        "eth0; horovodrun --network-interface eth0\n"
    )
