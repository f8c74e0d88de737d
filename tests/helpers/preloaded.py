"""Run `preloaded.py SOCKET PYTHON WORDS` as `PYTHON WORDS`, in a fork of a process that has imported PyTorch already.

Importing PyTorch and Horovod takes a rank longer than a small job. Ranks are still started by the real launcher: it
starts this program, which hands its arguments, folder, environment and files to the server, `preloading.py`, passes
signals on, and ends as the fork ends. Whatever a fork could not take over is run by an interpreter of its own.
"""

import array
import json
import os
import resource
import signal
import socket
import sys

# read by the interpreter or a library when it is loaded
AT_LOADING = (
    "PYTHON",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "LD_",
    "MALLOC_",
    "GLIBC_",
    "TORCH",
    "PYTORCH",
    "CUDA",
)
# the fork sees to two of these; mpirun sets the third, for itself; the fourth is read with the first look for a GPU
FREE = {"PYTHONPATH", "PYTHONUNBUFFERED", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
# libraries set these when they are imported, also in the process of the tests: its ranks would be no forks from then on
FREE |= {"TORCHINDUCTOR_CACHE_DIR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}
PASSED_ON = tuple(getattr(signal, f"SIG{name}") for name in ("TERM", "INT", "HUP", "USR1", "USR2", "QUIT", "XCPU"))
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


def at_loading(env: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    """The variables that must be those of the server."""
    return {name: env[name] for name in env if name.startswith(AT_LOADING) and name not in FREE}


def main(path: str, python: str, *words: str) -> None:
    if words[words[0] == "-P"] != "-m" and words[0][0] == "-":
        os.execv(python, [python, *words])
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    with connection.makefile("r") as answers:
        if json.loads(answers.readline()) != at_loading(os.environ):
            connection.close()
            os.execv(python, [python, *words])
        call = {
            "words": words,
            "folder": os.getcwd(),
            "env": dict(os.environ),
            "cpus": sorted(os.sched_getaffinity(0)),
            "limits": {number: resource.getrlimit(number) for number in LIMITS},
            "ignored": [number for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN],
        }
        files = array.array("i", range(3))
        connection.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        connection.sendall(json.dumps(call).encode() + b"\n")
        child = int(answers.readline())
        for number in PASSED_ON:  # the ignored, too: a program may take them up again
            signal.signal(number, lambda number, _: os.kill(child, number))
        for file in files:  # or who reads from a pipe would wait for this process, too
            os.dup2(os.open(os.devnull, os.O_RDWR), file)
        status = int(answers.readline() or signal.SIGKILL)
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
