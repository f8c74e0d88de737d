"""What a scheduler gave a job, and warnings where the job does not use it."""

import os
from pathlib import Path

from runner.host.allocation import slurm_cpus, unused

STEP = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0", "SLURMD_NODENAME": "a"}
ONE_PROCESS = "Slurm gave this job 4 tasks, and one process is at work; put srun "


def test_tasks_that_nothing_has_started(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("a\na\nb\n")
    for environ, says in (
        ({}, ""),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7"}, ""),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, f"{ONE_PROCESS}--mpi=pmix before"),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, f"{ONE_PROCESS}--overlap --mpi=pmix before"),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_ID": "4294967290"}, f"{ONE_PROCESS}--mpi=pmix before"),
        ({"SLURM_NTASKS": "4", **STEP}, ""),
        ({"SLURM_NTASKS": "4", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, ""),
        ({"LSB_DJOB_NUMPROC": "8"}, "LSF gave this job 8 tasks, and one process is at work; put mpirun"),
        ({"PBS_NODEFILE": str(tmp_path / "nodes")}, "PBS gave this job 3 tasks"),
        ({"PBS_NODEFILE": str(tmp_path / "none")}, ""),
    ):
        assert unused(1, environ).startswith(says), environ
        assert bool(unused(1, environ)) == bool(says), environ


def test_a_step_with_fewer_cpus_per_task_than_its_job() -> None:
    count = os.cpu_count() or 1
    says = f"Slurm gave this job {count + 1} CPUs per task, and a rank may use {count - 1}; give srun, too, --cpus-per"
    assert unused(count - 1, STEP | {"SLURM_CPUS_PER_TASK": str(count + 1)}).startswith(says)
    for cpus, asked in ((count, str(count + 1)), (1, "1"), (1, ""), (1, "many")):
        assert unused(cpus, STEP | {"SLURM_CPUS_PER_TASK": asked}) == ""


def test_cpus_that_slurm_gave() -> None:
    assert slurm_cpus({"SLURM_CPUS_ON_NODE": "6", "SLURM_JOB_ID": "7"}) == {"Slurm job 7": 6.0}
    assert slurm_cpus({}) == slurm_cpus({"SLURM_CPUS_ON_NODE": "0"}) == {}
