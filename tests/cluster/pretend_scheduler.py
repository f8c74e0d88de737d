"""Stands in for PBS's qsub and LSF's bsub, by the name that it is called by: runs the job on node1, and waits for it.

It does what their documentation says, as far as the scripts of scripts/batch use it, and no scheduling: options come
from the script's #PBS or #BSUB lines, the script runs from a copy, in another folder than it was submitted from, and
has only the variables that it would have there.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

SPOOL = Path(tempfile.mkdtemp(dir=Path(__file__).parent))  # beside the copy that the test has made of this file


def qsub(arguments):
    """`qsub -v NAME,NAME=VALUE... SCRIPT`"""
    option, names, script = arguments
    assert option == "-v", arguments
    text = Path(script).read_text()
    # quotes and backslashes do not arrive as they were sent
    passed = dict(item.split("=", 1) if "=" in item else (item, os.environ[item]) for item in names.split(","))
    assert not re.search(r"[\\'\",\n]", "".join(passed.values())), passed
    chunks, ranks = re.search(r"^#PBS -l select=(\d+):ncpus=\d+:mpiprocs=(\d+)", text, re.MULTILINE).groups()
    assert re.search(r"^#PBS -l place=scatter$", text, re.MULTILINE)
    hosts = write_hosts(int(chunks), int(ranks))
    job = {"PBS_JOBID": "7.head", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_O_WORKDIR": os.getcwd(), "PBS_NODEFILE": hosts}
    return text, passed | job


def bsub(arguments):
    """`bsub < SCRIPT`: the job gets the environment of the submission"""
    assert not arguments, arguments
    text = sys.stdin.read()
    slots = int(re.search(r"^#BSUB -n (\d+)$", text, re.MULTILINE)[1])
    ranks = int(re.search(r'^#BSUB -R "span\[ptile=(\d+)\]"$', text, re.MULTILINE)[1])
    assert slots % ranks == 0
    job = {"LSB_JOBID": "7", "LS_SUBCWD": os.getcwd(), "LSB_DJOB_HOSTFILE": write_hosts(slots // ranks, ranks)}
    return text, dict(os.environ) | job


def write_hosts(number, ranks):
    """A line for each rank, as both have it."""
    path = SPOOL / "hosts"
    path.write_text("".join(f"node{1 + i}\n" * ranks for i in range(number)))
    return str(path)


text, variables = {"qsub": qsub, "bsub": bsub}[Path(sys.argv[0]).name](sys.argv[1:])
(SPOOL / "script").write_text(text)
as_root = {name: value for name, value in os.environ.items() if "_ALLOW_RUN_AS_ROOT" in name}
environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"]} | as_root | variables
words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), "bash", str(SPOOL / "script")]
command = f"cd {shlex.quote(str(SPOOL))} && exec {shlex.join(words)}"
sys.exit(subprocess.run(["ssh", "node1", command], check=False).returncode)
