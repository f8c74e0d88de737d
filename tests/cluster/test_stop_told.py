"""A stop is told though the launcher drops what ranks print after the signal, and no rank runs on its host."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest


@pytest.mark.cold  # ranks whose launcher is above them
def test_a_signal_to_mpirun_with_all_ranks_on_other_hosts(hosts, job, tmp_path):
    log, slow = tmp_path / "log", tmp_path / "slow"
    slow.touch()
    model = ["--model-args", json.dumps({"flag": str(slow)})]
    command = ["mpirun", "-np", "2", "--host", "node1,node2", *job.command(tmp_path / "p.npy", model="Slow"), *model]
    with log.open("w") as file:
        process = subprocess.Popen(
            hosts.on("head", *command),
            cwd=job.folder,
            env=hosts.env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    give_up = time.monotonic() + 100
    ledger = tmp_path / "p.npy.run/ledger.jsonl"
    while not ledger.exists() or '"chunk"' not in ledger.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.05)
    (mpirun,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()  # of nsenter
    os.kill(int(mpirun), signal.SIGTERM)
    assert process.wait(60) in (1, 75), log.read_text()
    said = log.read_text()
    assert said.count("runner: stopping. What is recorded is kept; the same command resumes.") == 1, said
