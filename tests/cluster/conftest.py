"""Fixtures of the launcher tests: pretend hosts with ssh, a real Slurm on them, and a job with a known answer."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import launch
import numpy as np
import pytest
from launch import BIN, HELPERS, commands, environment, patience, preloaded

HERE = Path(__file__).parent
PRELOADING = Path("/run/preloading")  # on each host, of its own

# "Fails" raises on a row below zero; any other whole batch keeps it busy for far longer than a test may take. It lets
# fewer rows through: rank 0 tries one before the ranks start, and a batch that fails is halved to find the bad row. It
# also lets the first whole batch through, by which the ranks are compared. "Slow" gives the predictions of build, and
# takes a second for a batch, or as many as a file says, as long as that is there, so that something can happen to it
# half-way.
MODEL = """
import contextlib
import os
import time
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.whole_batches = 0

    def forward(self, rows):
        if (rows < 0).any():
            raise ValueError("a bad row")
        self.whole_batches += len(rows) == 4
        if self.whole_batches > 2:  # the runner tries out the first two
            time.sleep(600)
        return rows

class Slow(nn.Module):
    def __init__(self, flag):
        super().__init__()
        self.model, self.flag = build(), flag

    def forward(self, rows):
        with contextlib.suppress(FileNotFoundError):
            time.sleep(float(open(self.flag).read() or 1))
        return self.model(rows)

def ends_at_once():
    os._exit(3)
"""
NUM_ROWS = 211  # several chunks for each of four ranks, the last one not full


def run_to_end(command: Iterable[object], timeout: float, **options: object) -> tuple[int, str]:
    """Run a command to its end, and all of its process group with it when time is out.

    Returns:
        (exit code, stdout and stderr as they came).
    """
    process = subprocess.Popen(
        [str(word) for word in command],
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **options,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"{command} ended by {error!r}; so far:\n{output}") from error
    return process.returncode, output


@dataclass(frozen=True)
class Job:
    """A small prediction job: `tiny_model.py` and `rows.npy` in `folder`, where it is to be started.

    Attributes:
        env: a plain environment, as of a user who has activated the virtual environment.
        expected: the bytes of the output of a run without launcher.
    """

    folder: Path
    env: dict[str, str]
    expected: bytes
    chunk_size: int = 8

    def arguments(self, output: Path, model: str = "build", data: str = "rows.npy") -> list[object]:
        """The arguments of `python -m runner predict`."""
        sizes = ["--batch-size", 4, "--chunk-size", self.chunk_size, "--threads", 1]  # threads change the last bits
        return ["--model", f"tiny_model:{model}", "--data", data, "--output", output, *sizes]

    def command(self, output: Path, **options: str) -> list[object]:
        """The whole command, for a launcher to be put before."""
        return [*self.python(), "-m", "runner", "predict", *self.arguments(output, **options)]

    def python(self) -> list[object]:
        """The beginning of a command that runs Python on any host; see `launch.python`."""
        return [commands(PRELOADING) / "python"] if launch.is_preloaded else [sys.executable]

    def venv(self) -> str:
        """The virtual environment, for scripts that activate it."""
        return str(self.folder / "venv") if launch.is_preloaded else sys.prefix

    def hosts(self, output: Path) -> list[str]:
        """The host of each rank, as a finished job reports it."""
        return [rank["host"] for rank in json.loads(Path(f"{output}.run/report.json").read_text())["ranks"]]

    def run(self, *command: object, timeout: float = 150) -> tuple[int, str]:
        """Run a command on this machine; returns exit code and output."""
        return run_to_end(command, timeout, cwd=self.folder, env=self.env)


@dataclass(frozen=True)
class Cluster:
    """The hosts head, node1, node2, ..."""

    folder: Path
    job: Job

    def run(self, host: str, *command: object, timeout: float = 150, **env: str) -> tuple[int, str]:
        """Run a command on a host in the job's folder; returns exit code and output."""
        return run_to_end(self.on(host, *command), timeout, cwd=self.job.folder, env=self.env | env)

    @property
    def env(self) -> dict[str, str]:
        """The environment of a user."""
        return self.job.env | {"SLURM_CONF": f"{self.folder}/slurm/slurm.conf"}

    def on(self, host: str, *command: object) -> list[str]:
        """The command that runs a command on a host."""
        return [str(word) for word in (HERE / "on_host.sh", self.folder, host, *command)]

    def power_off(self, host: str) -> None:
        """End all processes of a host at once, and its network with them."""
        os.kill(int((self.folder / f"{host}.pid").read_text()), signal.SIGKILL)

    def cut_off(self, host: str) -> None:
        """Pull a host's plug out of the switch: it lives, and nothing comes from it any more, nor reaches it."""
        code, said = self.run("head", "ip", "link", "set", host, "down")
        assert code == 0, said


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    (folder / "tiny_model.py").write_text(MODEL)
    rows = np.random.default_rng(0).random((NUM_ROWS, 8), dtype=np.float32)
    np.save(folder / "rows.npy", rows)
    # these tests may themselves run under a launcher, whose variables are none of the job's business
    launchers = ("OMPI_", "PMI", "PRTE_", "SLURM_", "SRUN_", "HOROVOD_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    env |= {
        "PATH": f"{commands(PRELOADING)}:{BIN}:{env['PATH']}",
        "OMP_NUM_THREADS": "1",
        **patience(),
        "HOME": str(tmp_path_factory.mktemp("home")),  # horovodrun remembers in it which hosts ssh can reach
        **{f"{name}_ALLOW_RUN_AS_ROOT{suffix}": "1" for name in ("OMPI", "PRTE") for suffix in ("", "_CONFIRM")},
    }
    activate = folder / "venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f"export PATH={commands(PRELOADING)}:{BIN}:$PATH VIRTUAL_ENV={sys.prefix}\n")
    alone = Job(folder, env, b"")
    output = folder / "expected.npy"
    code, said = alone.run(*alone.command(output))
    assert code == 0, said
    return Job(folder, env, output.read_bytes())


@contextlib.contextmanager
def _cluster(folder: Path, job: Job, num_nodes: int, *command: object) -> Iterator[Cluster]:
    """The hosts, with what `command` starts on them; they live as long as the script's stdin is open."""
    script = [HERE / "hosts.sh", folder, str(num_nodes), *command]
    log = folder.with_suffix(".log")
    with (
        log.open("w") as file,
        subprocess.Popen(
            script, env=job.env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file
        ) as process,
    ):
        if process.stdout.readline() != "ready\n":
            assert process.wait() == 77, log.read_text()
            pytest.skip(log.read_text().strip())
        with contextlib.ExitStack() as servers:
            for pid in folder.glob("*.pid"):
                servers.enter_context(_preloading(pid.stem, pid.read_text().strip(), Cluster(folder, job)))
            yield Cluster(folder, job)


@contextlib.contextmanager
def _preloading(host: str, pid: str, cluster: Cluster) -> Iterator[None]:
    """A server on a host of which ranks there are forks, as long as its stdin is open; see `preloading.py`."""
    command = [*preloaded(), sys.executable, HELPERS / "preloading_host.py", pid, PRELOADING]
    with subprocess.Popen(command, env=environment(PYTHONPATH=""), stdin=subprocess.PIPE):
        code, said = cluster.run(host, "sh", "-c", f"until [ -S {PRELOADING} ]; do sleep 0.01; done")
        assert code == 0, said
        yield


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory, job: Job) -> Iterator[Cluster]:
    """Hosts that reach each other by ssh: head, node1, node2 and node3."""
    with _cluster(tmp_path_factory.mktemp("hosts") / "state", job, 3) as cluster:
        yield cluster


@pytest.fixture
def own_hosts(tmp_path_factory: pytest.TempPathFactory, job: Job) -> Iterator[Cluster]:
    """The same for one test alone, which may change or end them."""
    with _cluster(tmp_path_factory.mktemp("hosts") / "state", job, 3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory, job: Job) -> Iterator[Cluster]:
    """Two hosts with a real Slurm, to be used from head."""
    folder = tmp_path_factory.mktemp("slurm") / "state"
    with _cluster(folder, job, 2, HERE / "slurm.sh", folder, "2") as cluster:
        yield cluster


@pytest.fixture
def own_slurm(tmp_path_factory: pytest.TempPathFactory, job: Job) -> Iterator[Cluster]:
    """Three hosts with a real Slurm for one test alone, which may end them."""
    folder = tmp_path_factory.mktemp("slurm") / "state"
    with _cluster(folder, job, 3, HERE / "slurm.sh", folder, "3") as cluster:
        yield cluster
