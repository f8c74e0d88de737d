"""What scripts/setup.sh asks about the environment; it installs nothing.

    environment.py requirements PYPROJECT EXTRAS    the project's, less the three setup.sh sees to itself
    environment.py check STATE_FOLDER NAME=PIN...   import it all, see that there is one MPI in it, print a summary

Exits with 1, and one line on standard error, where something is wrong.
"""

import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

# Prints the versions, the MPI's own words, and each libmpi that the process has loaded. MPI itself is not started:
# on a login node that may fail, or be forbidden.
PROBE = """
import os, re
import mpi4py
mpi4py.rc.initialize = mpi4py.rc.finalize = False
{imports}
libraries = set()
for line in open("/proc/self/maps"):
    if re.fullmatch(r"libmpi(_cray|_ibm|_gnu_\\d+)?\\.so[.\\d]*", os.path.basename(line.split()[-1])):
        libraries.add(os.path.realpath(line.split()[-1]))
print("found", *sorted(libraries), sep="\\t")
"""
REPORT = """
import horovod, torch
from mpi4py import MPI
import horovod.torch as hvd
print("torch", torch.__version__, sep="\\t")
print("mpi4py", mpi4py.__version__, sep="\\t")
print("horovod", horovod.__version__, sep="\\t")
print("operations", "nccl" if hvd.nccl_built() else "cpu", sep="\\t")
print("mpi", MPI.Get_library_version().splitlines()[0].rstrip("\\0 "), sep="\\t")
"""


def probe(imports: str) -> dict[str, list[str]]:
    """What a new process with these imports prints, by first word."""
    command = [sys.executable, "-c", PROBE.format(imports=imports)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(done.stdout, done.stderr, file=sys.stderr)
    if done.returncode:
        sys.exit(f"it is installed but cannot be imported: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines() if "\t" in line}


def requirements(pyproject: str, wanted: str) -> None:
    project = tomllib.loads(Path(pyproject).read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})

    def walk(extra: str) -> Iterator[str]:
        if extra not in extras:
            sys.exit(f"pyproject.toml has no extra '{extra}', only {', '.join(extras)}")
        for line in extras[extra]:
            inner = re.match(rf"{project['name']}\[(.*)\]", line)  # an extra may include others of the same project
            for part in inner[1].split(",") if inner else ():
                yield from walk(part.strip())
            if not inner:
                yield line

    lines = project.get("dependencies", []) + [line for extra in wanted.split(",") if extra for line in walk(extra)]
    for line in dict.fromkeys(lines):
        if not re.match(r"(torch|mpi4py|horovod)(?![\w.-])", line):
            print(line)


def check(state: Path, pins: dict[str, str]) -> None:
    kept = (state / "kept").read_text().split()
    # Horovod alone, as horovodrun loads it, and after mpi4py, as the runner does: whichever comes first decides
    # which libmpi the other one gets, so only both orders together show that they were built for the same.
    alone = probe("import horovod.torch")["found"] if "horovod" not in kept else None
    both = probe(REPORT)
    if len(both["found"]) != 1 or alone not in (None, both["found"]):
        found = " and ".join(sorted({*both["found"], *(alone or [])})) or "none"
        sys.exit(f"mpi4py and Horovod do not load the same MPI library: {found}; unload the modules of other MPIs")
    expected = (state / "mpi").read_text().strip() if (state / "mpi").exists() else both["mpi"][0]
    if both["mpi"][0] != expected:
        sys.exit(f"mpicc belongs to '{expected}', but what is loaded is '{both['mpi'][0]}'; unload one of the two")
    for name in kept:
        if both[name][0].split("+")[0] != pins[name]:
            print(f"WARNING: the site's {name} {both[name][0]} is kept; this project is tested with {pins[name]}")
    versions = ", ".join(f"{name} {both[name][0]}{' (kept)' * (name in kept)}" for name in pins)
    print(f"Python {platform.python_version()}, {versions}, collectives: {both['operations'][0]}")
    print(f"{both['mpi'][0]} ({both['found'][0]})")


if __name__ == "__main__":
    command, first, *rest = sys.argv[1:]
    if command == "requirements":
        requirements(first, rest[0])
    else:
        check(Path(first), dict(pin.split("=") for pin in rest))
