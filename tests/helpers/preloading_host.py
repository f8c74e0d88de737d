"""Make of a fork of the preloading server the one of a host of hosts.sh: `preloading_host.py PID SOCKET`."""

import ctypes
import os
import sys

from preloading import Server, run

NAMESPACES = ("net", "uts", "ipc", "mnt", "pid_for_children")


def main(pid: str, path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for file in [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in NAMESPACES]:
        if libc.setns(file, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(file)
    if child := os.fork():  # into the namespace of processes
        os.waitpid(child, 0)
        return
    run(**Server(path).serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
