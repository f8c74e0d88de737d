"""slurm-requeue.sbatch on a real Slurm: a job that is longer than its time limit, and jobs that must not come back."""

import json

import pytest
from batch import PATIENT, SCRIPTS, await_end, await_that, show, start

SCRIPT = SCRIPTS / "slurm-requeue.sbatch"
ASKED = ["scancel", "--batch", "--signal=USR1"]  # as --signal does it before the time limit
CANCELLED = ["scancel"]


@pytest.mark.timeout(400)
def test_a_job_comes_back_until_it_is_whole_unless_it_is_cancelled_or_came_back_too_often(slurm, job, tmp_path):
    (tmp_path / "patient.py").write_text(PATIENT)
    never = tmp_path / "never.sbatch"
    never.write_text(SCRIPT.read_text().replace("max_restarts=100 ", "max_restarts=0 "))
    jobs = {}  # at the same time, which is quicker
    for name, script in {"whole": SCRIPT, "cancelled": SCRIPT, "too-often": never}.items():
        folder = tmp_path / name
        folder.mkdir()
        model = ["--model", "patient:Patient", "--model-args", json.dumps({"folder": str(folder)})]
        arguments = [*job.arguments(folder / "predictions.npy"), *model]
        jobs[name] = start(slurm, folder / "log", script, *arguments, PYTHONPATH=f"{tmp_path}:{job.folder}")
    for name, stop in {"whole": ASKED, "cancelled": CANCELLED, "too-often": ASKED}.items():
        await_that(slurm, jobs[name], (tmp_path / name / "computing").exists, tmp_path / name / "log")
        code, said = slurm.run("head", *stop, jobs[name])
        assert code == 0, said
        (tmp_path / name / "told").touch()

    state, code, said = await_end(slurm, jobs["too-often"], tmp_path / "too-often/log")
    assert (state, code) == ("FAILED", "75:0"), said
    assert "slurm-requeue: not whole after 0 restarts, the most that max_restarts allows" in said
    state, _, said = await_end(slurm, jobs["cancelled"], tmp_path / "cancelled/log")
    assert state == "CANCELLED", said
    assert "back into the queue" not in said

    state, code, said = await_end(slurm, jobs["whole"], tmp_path / "whole/log", timeout=180)
    assert (state, code) == ("COMPLETED", "0:0"), said
    assert "stopped by a signal" in said  # the log holds both starts
    assert "slurm-requeue: the job goes back into the queue (restart 1 of at most 100)" in said
    starts = sorted(path.name for path in (tmp_path / "whole").glob("start-*"))
    assert starts == ["start-0", "start-1"]  # by SLURM_RESTART_COUNT
    assert (tmp_path / "whole/predictions.npy").read_bytes() == job.expected
    report = json.loads((tmp_path / "whole/predictions.npy.run/report.json").read_text())
    assert report["resumed_rows"] > 0
    assert report["computed_rows"] > 0
    assert report["resumed_rows"] + report["computed_rows"] == report["num_rows"]
    restarts = {name: show(slurm, job_id)[0]["Restarts"] for name, job_id in jobs.items()}
    assert restarts == {"whole": "1", "cancelled": "0", "too-often": "0"}
