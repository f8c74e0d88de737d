"""`python -m runner hosts` by the variables that schedulers set; on a real Slurm in cluster/test_slurm.py."""

import subprocess
from pathlib import Path

import pytest
from launch import ROOT, environment

from runner.cli.main import main
from runner.commands.hosts import VARIABLES
from runner.host.process import has_launcher_above


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["hosts", *arguments]) == 0
    return capsys.readouterr().out


def test_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "node1:2, node-2.site:13,c") == "node1 slots=2\nnode-2.site slots=13\nc slots=1\n"
    assert printed(capsys, "b,a", "--slots", "4") == "b slots=4\na slots=4\n"


def test_pbs_and_lsf(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("b.site\nb.site\na.site\nb.site\n")
    for name in ("PBS_NODEFILE", "LSB_DJOB_HOSTFILE"):
        monkeypatch.setenv(name, str(tmp_path / "nodes"))
        assert printed(capsys) == "b.site slots=3\na.site slots=1\n"
        monkeypatch.delenv(name)
    monkeypatch.setenv("LSB_MCPU_HOSTS", "b.site 3 a.site 12 ")
    assert printed(capsys) == "b.site slots=3\na.site slots=12\n"


def test_the_launch_node_of_jsrun_gets_no_rank(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nodes").write_text("batch5\n" + "h1\n" * 42 + "h2\n" * 42)
    monkeypatch.setenv("CSM_ALLOCATION_ID", "77")
    monkeypatch.setenv("LSB_MCPU_HOSTS", "batch5 1 h1 42 h2 42")
    assert printed(capsys) == "h1 slots=42\nh2 slots=42\n"
    monkeypatch.setenv("LSB_DJOB_HOSTFILE", str(tmp_path / "nodes"))
    assert printed(capsys, "--slots", "2") == "h1 slots=2\nh2 slots=2\n"


@pytest.mark.skipif(has_launcher_above(also="salloc") is not False, reason="a launcher is above, or may be")
def test_the_list_of_an_earlier_job_is_not_taken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[1-2]")
    assert main(["hosts"]) == 64
    assert "Slurm's variables are left over from job 7, of which this process is no part" in capsys.readouterr().err
    monkeypatch.setenv("LSB_MCPU_HOSTS", "a 2")
    assert printed(capsys) == "a slots=2\n"
    script = [ROOT / "scripts/run_until_done.sh", "--hostfile", "/nowhere", "--", "--output", "p.npy"]
    ended = subprocess.run(script, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 64
    assert "run_until_done: Slurm's variables are left over from job 7" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], {}, "not inside an allocation of Slurm, PBS or LSF"),
        (["node1:0"], {}, "'node1:0' is not a host"),
        (["a b"], {}, "'a b' is not a host"),
        (["a,b:2,a"], {}, "a is listed twice"),
        (["a", "--slots", "0"], {}, "--slots must be a whole number of 1 or more"),
        ([], {"PBS_NODEFILE": "/nowhere"}, "PBS_NODEFILE /nowhere: No such file"),
        ([], {"LSB_MCPU_HOSTS": "a 2 b"}, "LSB_MCPU_HOSTS 'a 2 b' is not a list of hosts"),
        ([], {"SLURM_JOB_NODELIST": "node[1-"}, "scontrol cannot list the hosts of node[1-: "),
    ],
)
def test_what_is_no_hosts(
    arguments: list[str],
    variables: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["hosts", *arguments]) == 64
    assert message in capsys.readouterr().err
