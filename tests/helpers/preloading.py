"""The server behind `preloaded.py`: a process that has imported PyTorch and Horovod, and is forked for each rank.

A fork differs from an interpreter of its own in its parent, in its name, in what its address space held before and
holds at its end, and in that it takes a fifth of the time.
"""

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import resource
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
from typing import Any

from preloaded import PASSED_ON, at_loading

# not Transformers and the like, which read variables when they are imported, but what takes the longest of them
LIBRARIES = ["horovod.torch", "torch.distributed.tensor.parallel", "torch.distributed.pipelining", "scipy.optimize"]
LIBRARIES += ["pandas", "pyarrow.parquet", "jinja2", "rich.console"]
OWN_PATH = [folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__))]


class Server:
    """Serves on a listening socket until its standard input ends, which is with the process that started it."""

    def __init__(self, path: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.children: dict[int, socket.socket] = {}
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        self.woken, wake = os.pipe()
        for file in (self.woken, wake):
            os.set_blocking(file, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.selector.register(self.woken, selectors.EVENT_READ, self.reap)
        self.selector.register(0, selectors.EVENT_READ, self.end)
        self.call: dict[str, Any] | None = None

    def serve(self) -> dict[str, Any]:
        """Return in each fork, with what it is to run."""
        while self.call is None:
            for key, _ in self.selector.select():
                key.data(key.fileobj)
                if self.call is not None:
                    break
        return self.call

    def accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.sendall(json.dumps(at_loading(os.environ)).encode() + b"\n")
        self.selector.register(connection, selectors.EVENT_READ, self.fork)

    def fork(self, connection: socket.socket) -> None:
        self.selector.unregister(connection)
        try:
            _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(3 * array.array("i").itemsize))
            with connection.makefile("r") as lines:
                call = json.loads(lines.readline())
        except (OSError, ValueError):  # nothing has come: it was killed, or runs an interpreter of its own
            connection.close()
            return
        files = array.array("i", ancillary[0][2])
        if child := os.fork():
            for file in files:
                os.close(file)
            self.children[child] = connection
            connection.sendall(b"%d\n" % child)
            self.selector.register(connection, selectors.EVENT_READ, self.kill)
            return
        self.call = call
        os.close(signal.set_wakeup_fd(-1))
        os.close(self.woken)
        for ours in (self.selector, self.listener, connection, *self.children.values()):
            ours.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)

    def kill(self, connection: socket.socket) -> None:
        """Do to the child what was done to the one that stands for it."""
        for child, its in self.children.items():
            if its is connection:
                self.selector.unregister(connection)
                os.kill(child, signal.SIGKILL)

    def reap(self, woken: int) -> None:
        os.read(woken, 4096)
        for child in list(self.children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with self.children.pop(child) as connection:
                    if connection in self.selector.get_map():
                        self.selector.unregister(connection)
                        with contextlib.suppress(OSError):  # it was killed, too
                            connection.sendall(b"%d\n" % status)

    def end(self, _: int) -> None:
        for child in self.children:
            os.kill(child, signal.SIGKILL)
        os._exit(0)


def run(
    words: list[str],
    folder: str,
    env: dict[str, str],
    cpus: list[int],
    limits: dict[str, tuple[int, int]],
    ignored: list[int],
) -> None:
    """Become the interpreter that was asked for."""
    os.setsid()
    for number, limit in limits.items():
        resource.setrlimit(int(number), limit)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    os.sched_setaffinity(0, cpus)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    sys.modules["numpy"].random.seed()
    tempfile.tempdir = None
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty(), write_through=bool(env.get("PYTHONUNBUFFERED")))
    sys.orig_argv = [sys.executable, *words]
    sys.path[:] = [*filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *OWN_PATH]
    importlib.invalidate_caches()
    sys.modules.pop("sitecustomize", None)  # those of the tests are of other folders
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    if words[0] == "-P":
        words = words[1:]
    else:
        sys.path.insert(0, folder if words[0] == "-m" else os.path.dirname(os.path.abspath(words[0])))
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if not isinstance(end.code or 0, int):
            raise
        leave(end.code or 0)
    leave(0)


def leave(code: int) -> None:
    """End as interpreters do, but for freeing modules: each page of them would be copied first, which takes long."""
    threading._shutdown()
    atexit._run_exitfuncs()
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    with open("/proc/self/comm", "w") as own_name:
        own_name.write("mpirun-forks")  # else ranks of tests would pass for commands typed in the shell of pytest
    variables = at_loading(os.environ)
    for name in LIBRARIES:
        importlib.import_module(name)
        assert at_loading(os.environ) == variables, f"{name} sets a variable: no rank would be a fork"
    gc.freeze()  # or the first collection of each fork would copy every page of objects
    run(**Server(sys.argv[1]).serve())
