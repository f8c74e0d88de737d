"""Another MPI than the one that Horovod was built with: MPICH's own launcher and library, through mpi4py alone.

mpi4py's wheel loads the library that MPI4PY_LIBMPI names (https://mpi4py.readthedocs.io, "Wheel packages"). MPICH's
wheel is unpacked into a folder of its own, so that nothing of it comes before the Open MPI of the environment.
"""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import zoo
from launch import PATIENCE, await_chunks, environment, finish, predict_command, python, recorded_chunks, run, start
from reference import plain_loop, random_rows
from wheels import unpack_wheel

pytestmark = pytest.mark.cold  # forks have loaded the library of Open MPI
MPICH = "mpich==5.0.2"
NUM_ROWS, BATCH_SIZE, DEADLY = 1797, 32, 1e9
# once: it deletes the file "die"; half a minute's work as long as the file "slowly" is there
DIES = json.dumps({"value": DEADLY, "flag": "die", "seconds": 1.5, "slowly": "slowly"})
OPTIONS = ["--comm", "mpi", "--model", "zoo:DiesOnce", "--model-args", DIES, "--data", "d.npy", "--output", "p.npy"]
OPTIONS += ["--batch-size", str(BATCH_SIZE), "--chunk-size", str(BATCH_SIZE)]
EVERYTHING = ["--schedule", "dynamic", "--collect", "alltoall", "--share-weights"]


@pytest.fixture(scope="module")
def mpich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with MPICH's `bin` and `lib`."""
    folder = tmp_path_factory.mktemp("mpich")
    unpack_wheel(MPICH, folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = random_rows(NUM_ROWS, 8)
    rows[NUM_ROWS // 2, 0] = DEADLY  # of three ranks' even shares, in the second's
    np.save(tmp_path / "d.npy", rows)
    np.save(tmp_path / "expected.npy", plain_loop(zoo.mlp(), rows, BATCH_SIZE))
    return tmp_path


def mpiexec(mpich: Path, np: int) -> list[str]:
    return [str(mpich / "bin/mpiexec"), "-np", str(np)]


def test_stopped_killed_and_resumed(mpich: Path, folder: Path) -> None:
    env = environment(MPI4PY_LIBMPI=str(mpich / "lib/libmpi.so.12"))

    # stopped: unlike that of Open MPI 5, this launcher passes TERM on, too
    run_folder = folder / "p.npy.run"
    (folder / "slowly").touch()
    process = start(predict_command(*OPTIONS, launcher=mpiexec(mpich, 3)), folder, env)
    await_chunks(run_folder, 3, process)
    os.kill(process.pid, signal.SIGTERM)
    outcome = finish(process, PATIENCE)
    assert outcome.code == 75, outcome.output
    assert "runner: stopped by a signal: " in outcome.output
    stopped = recorded_chunks(run_folder)

    # a rank is killed: the launcher ends the others
    (folder / "die").touch()
    (folder / "slowly").unlink()
    outcome = run(predict_command(*OPTIONS, launcher=mpiexec(mpich, 3)), folder, env=env)
    assert outcome.code == 9, outcome.output  # the number of the signal
    assert "Killed (signal 9)" in outcome.output
    assert not (folder / "die").exists()
    assert not (folder / "p.npy").exists()
    killed = recorded_chunks(run_folder)

    # and the same command resumes, on another number of ranks
    outcome = run(predict_command(*OPTIONS, *EVERYTHING, launcher=mpiexec(mpich, 2)), folder, env=env)
    assert outcome.code == 0, outcome.output
    assert (folder / "p.npy").read_bytes() == (folder / "expected.npy").read_bytes()
    report = json.loads((folder / "p.npy.run/report.json").read_text())
    assert (report["launcher"], report["world_size"]) == ("mpiexec", 2)
    assert report["resumed_rows"] > 0
    computed = recorded_chunks(run_folder)
    assert computed[: len(killed)] == killed
    assert killed[: len(stopped)] == stopped
    assert len(computed) == len(set(computed)) == -(-NUM_ROWS // BATCH_SIZE)


def test_two_mpis_in_one_process_are_refused(mpich: Path, folder: Path) -> None:
    """mpi4py's is MPICH, and Horovod was built with Open MPI, which would abort."""
    env = environment(MPI4PY_LIBMPI=str(mpich / "lib/libmpi.so.12"))
    with_horovod = [*OPTIONS, "--comm", "horovod"]
    outcome = run(predict_command(*with_horovod, launcher=mpiexec(mpich, 2)), folder, env=env)
    assert outcome.code == 64, outcome.output
    assert outcome.output.count("have loaded several MPI libraries: ") == 1
    assert not (folder / "p.npy.run").exists()
    command = [*mpiexec(mpich, 2), *python(), "-m", "runner", "doctor", "--comm", "mpi"]
    outcome = run(command, folder, env=env)
    assert outcome.code == 0, outcome.output
    told = " ".join(outcome.output.split())  # lines are wrapped
    assert "while Horovod there was built with another MPI, libmpi.so.40 " in told


def test_the_library_of_another_mpi_is_refused(mpich: Path, folder: Path) -> None:
    """Each process would be alone in a world of its own, and write over the others' output."""
    outcome = run(predict_command(*OPTIONS, launcher=mpiexec(mpich, 2)), folder)
    assert outcome.code == 64, outcome.output
    assert outcome.output.count("runner: error: mpiexec started 2 ranks, but MPI sees 1 (MPI library: Open MPI") == 1
    assert not (folder / "p.npy.run").exists()
