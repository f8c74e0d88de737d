"""How many threads are fair: by CPUs, by quotas of control groups, and where OpenMP is told to bind threads."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from launch import environment, mpirun, predict_command, run

from runner.core.limits import cpu_quotas, memory_limits
from runner.host.cpus import CpuShare, fair_threads

FREE = {"/": 1e9}


@pytest.mark.parametrize(
    ("mine", "local", "threads"),
    [
        ({0, 1, 2, 3}, [{0, 1, 2, 3}], 4),  # alone on the host
        ({0, 1, 2, 3}, [{0, 1, 2, 3}] * 2, 2),  # not bound: an equal share
        ({0, 1, 2, 3}, [{0, 1, 2, 3}] * 3, 1),  # what is left over stays idle
        ({0}, [{0}, {1}], 1),  # bound to a core each
        ({0, 1}, [{0, 1}, {2, 3}], 2),  # bound to a socket each
        ({0}, [{0}] * 5, 1),  # more ranks than cores
        (set(range(96)), [set(range(96))] * 7, 13),
    ],
)
def test_fair_threads_by_cpus(mine: set[int], local: list[set[int]], threads: int) -> None:
    others = CpuShare("other", frozenset(mine), {})
    shares = [CpuShare("host", frozenset(cpus), {}) for cpus in local]
    assert fair_threads(CpuShare("host", frozenset(mine), {}), [*shares, others]) == threads


@pytest.mark.parametrize(
    ("own", "quotas", "threads"),
    [
        ({}, [{}], 64),
        ({"/pod": 2.0}, [{"/pod": 2.0}], 2),
        ({"/pod": 0.5}, [{"/pod": 0.5}], 1),
        ({"/pod": 8.0}, [{"/pod": 8.0}] * 4, 2),  # shared by the ranks in the group
        ({"/pod/a": 2.0}, [{"/pod/a": 2.0}, {"/pod/b": 2.0}], 2),  # a group each
        ({"/pod/a": 4.0, "/pod": 6.0}, [{"/pod/a": 4.0, "/pod": 6.0}, {"/pod/b": 4.0, "/pod": 6.0}], 3),
    ],
)
def test_fair_threads_by_quotas(own: dict[str, float], quotas: list[dict[str, float]], threads: int) -> None:
    cpus = frozenset(range(64))
    count = len(quotas)
    shares = [CpuShare("host", frozenset(range(64 * i, 64 * i + 64)), each) for i, each in enumerate(quotas)]
    assert fair_threads(CpuShare("host", cpus, own), shares) == (threads if own else 64 // count)


VERSION_1 = {
    "cgroup": "4:cpu,cpuacct:/job/step\n3:memory:/job/step\n0::/\n",
    "cpu,cpuacct/job/step/cpu.cfs_quota_us": "-1",
    "cpu,cpuacct/job/step/cpu.cfs_period_us": "100000",
    "cpu,cpuacct/job/cpu.cfs_quota_us": "150000",
    "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
    "memory/memory.limit_in_bytes": "9223372036854771712",
    "memory/memory.usage_in_bytes": "5",
    "memory/memory.stat": "total_inactive_file 1",
    "memory/job/memory.limit_in_bytes": "1000",
    "memory/job/memory.usage_in_bytes": "700",
    "memory/job/memory.stat": "inactive_file 7\ntotal_inactive_file 50",
}
VERSION_2 = {
    "cgroup": "0::/job/step\n",
    "job/step/cpu.max": "max 100000",
    "job/cpu.max": "150000 100000",
    "job/step/memory.max": "max",
    "job/step/memory.current": "700",
    "job/step/memory.stat": "inactive_file 50",
    "job/memory.max": "1000",
    "job/memory.current": "700",
    "job/memory.stat": "anon 3\ninactive_file 50",
}
HYBRID = {name if name == "cgroup" else f"unified/{name}": text for name, text in VERSION_2.items()}
# a container that sees the tree of its own group alone, and the path that it has on the host
CONTAINER = {
    name.replace("job/", ""): text for name, text in VERSION_1.items() if name != "cgroup" and "step" not in name
}
CONTAINER |= {"cgroup": "4:cpu,cpuacct:/docker/3f\n3:memory:/docker/3f\n"}


@pytest.mark.parametrize("files", [VERSION_1, VERSION_2, HYBRID, CONTAINER], ids=["1", "2", "hybrid", "container"])
def test_limits_of_control_groups(files: dict[str, str], tmp_path: Path) -> None:
    assert (cpu_quotas(str(tmp_path), str(tmp_path / "cgroup")), memory_limits(str(tmp_path), "/none")) == ({}, {})
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    own = str(tmp_path / "cgroup")
    assert list(cpu_quotas(str(tmp_path), own).values()) == [1.5]
    assert list(memory_limits(str(tmp_path), own).values()) == [(1000, 350)]


MODEL = """
import json
import os
import torch
from torch import nn

def build():
    torch.ones(300, 300) @ torch.ones(300, 300)  # starts the threads of OpenMP
    tasks = os.listdir("/proc/self/task")
    facts = {"threads": torch.get_num_threads(), "cpus": [sorted(os.sched_getaffinity(int(task))) for task in tasks]}
    with open(f"facts-{os.environ.get('OMPI_COMM_WORLD_RANK', 0)}.json", "w") as file:
        json.dump(facts, file)
    return nn.Identity()
"""


@contextlib.contextmanager
def quota_of_one_cpu(is_real: bool, folder: Path) -> Iterator[list[str]]:
    """Yield the beginning of a command that runs in a control group; where none can be, with files of one laid over."""
    tree = "/sys/fs/cgroup/cpu"
    group = Path(tree if os.path.isdir(tree) else "/sys/fs/cgroup", f"test-{os.getpid()}")
    try:
        if not is_real:
            raise PermissionError
        group.mkdir()
        quota = group / "cpu.cfs_quota_us"
        (quota if quota.exists() else group / "cpu.max").write_text("100000")
    except OSError:
        (folder / "laid/cpu").mkdir(parents=True)
        (folder / "laid/cpu.max").write_text("100000 100000\n")
        (folder / "laid/cpu/cpu.cfs_quota_us").write_text("100000\n")
        (folder / "laid/cpu/cpu.cfs_period_us").write_text("100000\n")
        laid = f'mount --bind {folder}/laid /sys/fs/cgroup && exec "$@"'
        yield ["unshare", "--mount", "bash", "-c", laid, "laid-over"]
        return
    try:
        yield ["bash", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "in-group"]
    finally:
        group.rmdir()


def facts_of(folder: Path, command: list[str], ranks: int, **variables: str) -> list[dict[str, object]]:
    """What each rank of a job says of its threads and CPUs, which the user does not choose."""
    (folder / "facts.py").write_text(MODEL)
    np.save(folder / "d.npy", np.zeros((9, 3), "f4"))
    env = environment(**variables)
    del env["OMP_NUM_THREADS"]
    job = predict_command("--model", "facts:build", "--weights", "none", "--data", "d.npy", "--output", "p.npy")
    job = [word for word in job if word not in ("--threads", "1")]
    outcome = run([*command, *job], folder, env=env)
    assert outcome.code == 0, outcome.output
    return [json.loads((folder / f"facts-{rank}.json").read_text()) for rank in range(ranks)]


@pytest.mark.launch
@pytest.mark.cold
@pytest.mark.parametrize("is_real", [True, False], ids=["real", "laid over"])
def test_a_job_in_a_control_group(is_real: bool, tmp_path: Path) -> None:
    with quota_of_one_cpu(is_real, tmp_path) as in_group:
        (facts,) = facts_of(tmp_path, in_group, 1)
    assert facts["threads"] == 1


@pytest.mark.launch
@pytest.mark.cold
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_site_that_binds_threads(ranks: int, tmp_path: Path) -> None:
    """All ranks of a host would have one thread, on its first CPU."""
    launcher = [] if ranks == 1 else [*mpirun(2), "--bind-to", "none"]
    mine = sorted(os.sched_getaffinity(0))
    for facts in facts_of(tmp_path, launcher, ranks, OMP_PROC_BIND="close", OMP_PLACES="cores"):
        assert facts["threads"] == max(1, len(mine) // ranks)
        assert all(cpus == mine for cpus in facts["cpus"])
