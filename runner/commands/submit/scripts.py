"""Texts that start a job: batch scripts of Slurm, PBS or LSF, and command lines of mpirun or horovodrun.

Slurm: https://slurm.schedmd.com/sbatch.html. PBS Professional and OpenPBS: pbs_resources(7B) and qsub(1B), with support
for chunks (select); Torque has none. LSF: https://www.ibm.com/docs/en/spectrum-lsf/10.1.0, bsub.
"""

import shlex
from dataclasses import dataclass

# By default mpirun binds a rank, with its threads and those of Horovod, to one core, or to --cpus-per-rank of them. But
# mpiruns do not know of each other: those of two jobs at once bind to the same cores. --threads bounds a rank instead.
_UNBOUND = "--bind-to none"
_MARGIN_SECONDS = 120  # before the end, for the chunk that each rank is computing and for the final writes

_SITE = """# SITE: the modules that were loaded when scripts/setup.sh built Horovod, its MPI above all.
# module load {modules}"""
_REQUEUE = """
# The job stops in time, goes back into the queue, and goes on there; unless it has got no further by a single chunk.
committed() {{ grep -c '^{{"chunk"' {ledger} 2>/dev/null || true; }}
before=$(committed) pid='' told=''
trap 'told=1 again=1; if [[ $pid ]]; then kill -USR1 "$pid"; fi' USR1 # to all ranks, by srun
{run} &
pid=$!
while
    again='' code=0
    wait "$pid" || code=$?
    [[ $again ]] # the signal has ended the wait, and not the job
do :; done
if [[ $told ]] && ((code == 75)) && (($(committed) > before)); then
    scontrol requeue "$SLURM_JOB_ID" && sleep 60 # in which Slurm ends this script
fi
exit "$code"
"""


@dataclass(frozen=True)
class BatchJob:
    """A job to be started, and its resources.

    Attributes:
        predict: options of `predict`, as they were given.
        python: the interpreter.
        programs: folder that is searched first for mpirun and horovodrun.
        folder: working folder of the job.
        ledger: path of the output's ledger, relative to that folder.
        modules: the modules that are loaded now, as a reminder.
        nodes, ranks_per_node: their numbers; with a hostfile, one node with all ranks.
        cpus_per_rank: None for the default of the scheduler or launcher.
        gpus: whether each rank gets a GPU.
        seconds: time limit at which the scheduler ends the job.
        memory: memory of a node, such as 64G; None for the site's default.
        partition, account: None for the user's default.
        requeue: whether the job returns to the queue until the output is complete.
        hostfile: for mpirun and horovodrun; None for this host.
        directives: further options of the scheduler.
    """

    predict: tuple[str, ...]
    python: str
    programs: str
    folder: str
    ledger: str
    modules: str
    nodes: int
    ranks_per_node: int
    cpus_per_rank: int | None
    gpus: bool
    seconds: int
    memory: str | None
    partition: str | None
    account: str | None
    requeue: bool
    hostfile: str | None
    directives: tuple[str, ...]

    @property
    def ranks(self) -> int:
        """The number of ranks on all nodes."""
        return self.nodes * self.ranks_per_node

    @property
    def cpus_per_node(self) -> int:
        """The number of CPUs of all ranks on a node."""
        return self.ranks_per_node * (self.cpus_per_rank or 1)


def slurm(job: BatchJob) -> str:
    """Return a script for sbatch."""
    lines = [
        "--job-name=predict",
        "--output=%x-%j.log",
        f"--time={_hours(job.seconds)}",
        f"--signal=B:USR1@{_margin(job.seconds)}",
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={job.ranks_per_node}",
        f"--cpus-per-task={job.cpus_per_rank or 1}",
        "--gpus-per-task=1" * job.gpus,
        f"--mem={job.memory}" * bool(job.memory),
        f"--partition={job.partition}" * bool(job.partition),
        f"--account={job.account}" * bool(job.account),
        *["--requeue", "--open-mode=append"] * job.requeue,
    ]
    run = f"srun --mpi=pmix -K1 {_predict(job)}"
    body = f"""
set -euo pipefail

{_SITE.format(modules=job.modules)}

cd {shlex.quote(job.folder)}

# From Slurm 22.05 on, srun does not take --cpus-per-task from sbatch: a rank would be bound to one CPU.
export SRUN_CPUS_PER_TASK={job.cpus_per_rank or 1}

# SITE: --mpi says how ranks find each other: pmix for Open MPI, pmi2 for MPICH and Intel MPI (srun --mpi=list).
# -K1: a rank that dies ends the others, which would wait for it until the time limit.
"""
    if job.requeue:
        body += _REQUEUE.format(ledger=shlex.quote(job.ledger), run=run)
    else:
        body += f"# exec: the USR1 of --signal comes to this process, and srun passes it on to all ranks.\nexec {run}\n"
    return _header("#SBATCH", [*lines, *job.directives]) + body


def pbs(job: BatchJob) -> str:
    """Return a script for qsub."""
    chunk = {
        "ncpus": job.cpus_per_node,
        "mpiprocs": job.ranks_per_node,
        "ompthreads": job.cpus_per_rank or 1,  # the default would be all CPUs of a chunk, for each of its ranks
        "ngpus": job.ranks_per_node if job.gpus else None,
        "mem": f"{job.memory.lower()}b" if job.memory else None,
    }
    lines = [
        "-N predict",
        "-S /bin/bash",
        "-j oe",
        f"-l walltime={_hours(job.seconds)}",
        f"-l select={job.nodes}" + "".join(f":{name}={value}" for name, value in chunk.items() if value),
        "-l place=scatter",
        f"-q {job.partition}" * bool(job.partition),
        f"-A {job.account}" * bool(job.account),
    ]
    return _header("#PBS", [*lines, *job.directives]) + _by_mpirun(job)


def lsf(job: BatchJob) -> str:
    """Return a script for bsub, which reads it from its standard input."""
    lines = [
        "-J predict",
        "-o predict-%J.log",
        f"-W {-(-job.seconds // 60) // 60}:{-(-job.seconds // 60) % 60:02d}",
        f"-n {job.nodes * job.cpus_per_node}",
        f'-R "span[ptile={job.cpus_per_node}]"',
        f'-gpu "num={job.ranks_per_node}/host"' * job.gpus,
        f"-q {job.partition}" * bool(job.partition),
        f"-P {job.account}" * bool(job.account),
    ]
    return _header("#BSUB", [*lines, *job.directives]) + _by_mpirun(job)


def mpirun(job: BatchJob) -> str:
    """Return the command line of mpirun."""
    return _path(job) + f"exec mpirun {_UNBOUND} {_hosts(job)} {_predict(job)}\n"


def horovodrun(job: BatchJob) -> str:
    """Return the command line of horovodrun."""
    # its own binding options are spelled with single dashes, which Open MPI 5 rejects
    binding = shlex.quote(f"{_UNBOUND} --map-by slot")
    return _path(job) + f"exec horovodrun --mpi --binding-args={binding} {_hosts(job)} {_predict(job)}\n"


def time_limit(seconds: int) -> int:
    """Return the time limit, in seconds, for ranks that the scheduler does not warn before its own limit."""
    return seconds - _margin(seconds)


def _margin(seconds: int) -> int:
    return min(_MARGIN_SECONDS, seconds // 10)


def _hours(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _header(sign: str, lines: list[str]) -> str:
    return "#!/usr/bin/env bash\n" + "".join(f"{sign} {line}\n" for line in lines if line)


def _by_mpirun(job: BatchJob) -> str:
    """Return the script's body, which starts ranks by the mpirun on PATH, built for the scheduler or not."""
    return f"""
set -euo pipefail

{_SITE.format(modules=job.modules)}

cd {shlex.quote(job.folder)}
{_path(job)}
# An mpirun that was built without the scheduler needs the hosts, and reaches them by ssh; any other takes them, too.
hostfile=$(mktemp)
{shlex.quote(job.python)} -P -m runner hosts --slots {job.ranks_per_node} >"$hostfile"

# --bind-to none: otherwise mpirun binds a rank, with its threads and those of Horovod, to one core.
exec mpirun {_UNBOUND} --hostfile "$hostfile" -np {job.ranks} {_predict(job)}
"""


def _path(job: BatchJob) -> str:
    return f'export PATH={shlex.quote(job.programs)}:"$PATH"\n'


def _hosts(job: BatchJob) -> str:
    return f"-np {job.ranks}" + (f" --hostfile {shlex.quote(job.hostfile)}" if job.hostfile else "")


def _predict(job: BatchJob) -> str:
    return shlex.join([job.python, "-P", "-m", "runner", "predict", *job.predict])
