"""What Prometheus gets of a job: served while it runs, and in a file."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from launch import LAUNCHERS, PATIENCE, await_that, environment, finish, predict_command, predict_here, run, start

from runner.config.options import make_config
from runner.core.errors import UsageError
from runner.telemetry.prometheus import Metrics
from runner.telemetry.tally import Start, Tally

pytest.importorskip("prometheus_client", reason="prometheus_client is missing: pip install -e '.[metrics]'")
from prometheus_client.parser import text_string_to_metric_families

NUM_ROWS = 1000
Values = dict[tuple[str, str], float]


@pytest.fixture
def port() -> int:
    """One that nobody has now, and that the kernel gives to nobody by itself."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(first // 2, first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "d.npy", np.arange(NUM_ROWS, dtype=np.float32).repeat(8).reshape(-1, 8))
    return tmp_path


def parsed(text: str) -> Values:
    """Values by name and rank; the label of those that have none is empty."""
    families = text_string_to_metric_families(text)
    return {(s.name, s.labels.get("rank", "")): s.value for family in families for s in family.samples}


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def scrape_until(port: int, name: str, rank: str, process: "subprocess.Popen[str]") -> tuple[str, Values]:
    """What is served as soon as this is more than 0."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        assert process.poll() is None, process.communicate()
        try:
            text = scrape(port)
        except urllib.error.URLError:  # it does not listen yet
            text = ""
        if (values := parsed(text)).get((name, rank), 0) > 0:
            return text, values
        time.sleep(0.05)
    raise AssertionError(f"no {name} of rank {rank}: {text}")


def test_a_job_is_scraped(folder: Path, port: int) -> None:
    slow = json.dumps({"rank": 1, "seconds": 0.06, "factor": 4})
    options = ["--model", "zoo:OneIsSlow", "--model-args", slow, "--data", "d.npy", "--output", "p.npy"]
    options += ["--batch-size", "10", "--metrics", str(port)]
    process = start(predict_command(*options, launcher=LAUNCHERS["mpirun-2"]), folder)
    text, values = scrape_until(port, "runner_rank_straggler", "1", process)
    assert 'runner_job_info{launcher="mpirun",model="zoo:OneIsSlow",output="p.npy",world_size="2"} 1.0' in text
    assert values["runner_rows", ""] == NUM_ROWS
    done_rows = values["runner_rows_done_total", ""]
    assert 0 < done_rows < NUM_ROWS
    assert done_rows == values["runner_rank_rows_total", "0"] + values["runner_rank_rows_total", "1"]
    assert values["runner_rank_rows_per_second", "0"] > 2 * values["runner_rank_rows_per_second", "1"] > 0
    assert (values["runner_stragglers", ""], values["runner_rank_straggler", "0"]) == (1, 0)
    assert values["runner_seconds_left", ""] > 0
    assert values["runner_rows_per_second", ""] > 0
    assert values["runner_ended", ""] == 0
    assert abs(time.time() - values["runner_start_time_seconds", ""]) < 2 * PATIENCE
    assert not any(name.startswith(("process_", "python_")) for name, _ in values)

    assert finish(process, PATIENCE).code == 0
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_a_finished_job_leaves_its_last_figures(folder: Path) -> None:
    options = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--metrics", "job.prom"]
    outcome = predict_here(*options, folder=folder)
    assert outcome.code == 0, outcome.output
    values = parsed((folder / "job.prom").read_text())
    assert (values["runner_rows_done_total", ""], values["runner_ended", ""]) == (NUM_ROWS, 1)
    assert (values["runner_seconds_left", ""], values["runner_stragglers", ""]) == (0, 0)
    assert [path.name for path in folder.glob("job.prom*")] == ["job.prom"]


def test_a_killed_job_leaves_its_last_figures(folder: Path) -> None:
    hangs = json.dumps({"value": 15.0, "how": "sleep"})  # in the first chunk
    options = ["--model", "zoo:HangsAtRow", "--model-args", hangs, "--data", "d.npy", "--output", "p.npy"]
    options += ["--batch-size", "10", "--chunk-size", "20", "--metrics", "job.prom"]
    process = start(predict_command(*options), folder)
    await_that((folder / "job.prom").exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process, PATIENCE)
    values = parsed((folder / "job.prom").read_text())
    assert (values["runner_rows", ""], values["runner_ended", ""]) == (NUM_ROWS, 0)
    assert ("runner_seconds_left", "") not in values  # it was too early to tell


def test_what_cannot_be_is_refused_before_the_work(folder: Path, read_only: Path, port: int) -> None:
    other = socket.create_server(("", port))
    options = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy"]
    for words, message in (
        (["--metrics", "job.txt"], "--metrics 'job.txt' is neither a port, such as 9400, nor a path that ends in"),
        (["--metrics", "none/job.prom"], "--metrics none/job.prom: there is no folder none"),
        (["--metrics", f"{read_only}/job.prom"], "job.prom cannot be written"),
        (["--metrics", str(port)], f"--metrics {port} cannot be served on this host: Address already in use"),
        (["--metrics", "70000"], "--metrics 70000 cannot be served on this host"),
        (["--metrics", "0"], "--metrics '0' is neither a port"),
    ):
        outcome = predict_here(*options, *words, folder=folder)
        assert (outcome.code, message in outcome.output) == (64, True), outcome.output
        assert not (folder / "p.npy.run").exists()
    other.close()


def test_digits_are_a_port_and_anything_else_is_a_path() -> None:
    for value in (9400, "9400", "some/job.prom", Path("job.prom")):
        assert make_config({"model": "a:b", "data": "d.npy", "metrics": value}).metrics is not None
    for value in (0, -1, True, 2.5, "", "-1", "job.txt", ["job.prom"]):
        with pytest.raises(UsageError, match="is neither a port, such as 9400, nor a path that"):
            make_config({"model": "a:b", "data": "d.npy", "metrics": value})


def test_without_the_package_the_extra_is_named(folder: Path) -> None:
    hidden = "raise ModuleNotFoundError('hidden', name='prometheus_client')\n"
    (folder / "prometheus_client.py").write_text(hidden)  # as if it were not there
    options = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--metrics", "job.prom"]
    outcome = run(predict_command(*options, launcher=LAUNCHERS["mpirun-2"]), folder)
    assert outcome.code == 64, outcome.output
    message = "--metrics needs prometheus_client: pip install 'horovod-inference-runner[metrics]'"
    assert message in outcome.output
    assert outcome.output.count("runner: error") == 1
    assert not (folder / "p.npy.run").exists()


def tally() -> Tally:
    return Tally(Start(0, 0, 0, 1, "none", "here", 1.0, None))


def test_storage_that_fails_later_harms_nobody(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    metrics = Metrics(str(place / "job.prom"), {"output": "p.npy"})
    metrics.begin(tally().status)
    place.rmdir()
    metrics.write(tally().status(ended=True))
    metrics.close()
    assert not place.exists()


def test_served_from_the_start_to_the_end(port: int) -> None:
    metrics = Metrics(port, {"output": "p.npy"})
    assert scrape(port) == ""  # the job has not begun
    metrics.begin(tally().status)
    metrics.write(tally().status())
    assert parsed(scrape(port))["runner_ended", ""] == 0
    metrics.close()
    with pytest.raises(urllib.error.URLError):
        scrape(port)


def test_nothing_is_imported_that_is_not_asked_for(folder: Path) -> None:
    code = (
        "import sys; from runner.cli.main import main; main(sys.argv[1:]);"
        "print([name for name in ('rich', 'prometheus_client') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "predict", "--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy"]
    outcome = run(command, folder, env=environment())
    assert outcome.output.endswith("\n[]\n"), outcome.output
