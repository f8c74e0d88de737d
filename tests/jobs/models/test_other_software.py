"""Ranks whose libraries are of other versions, as on hosts with environments of their own."""

import json
from pathlib import Path

import numpy as np
from launch import environment, mpirun, predict_command, run


def test_other_versions_are_told_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import timm\nfrom torch import nn\n\ndef build():\n    return nn.Identity()\n")
    np.save(tmp_path / "d.npy", np.zeros((40, 3), "f4"))
    job = predict_command("--model", "own:build", "--weights", "none", "--data", "d.npy", "--output", "p.npy")
    ranks = []
    for rank, version in enumerate(("1.0.9", "0.9.1")):
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / "timm.py").write_text(f"__version__ = {version!r}\n")
        modules = f"{tmp_path / str(rank)}:{environment()['PYTHONPATH']}"
        ranks.append(["env", f"PYTHONPATH={modules}", *job])
    outcome = run([*mpirun(1), *ranks[0], ":", "-np", "1", *ranks[1]], tmp_path)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("runner: warning: the ranks do not compute with the same software: timm 1.0.9 on ") == 1
    assert ", 0.9.1 on " in outcome.output
    (job_line,) = json.loads((tmp_path / "p.npy.run/manifest.json").read_text())["jobs"]
    found = [(each["versions"]["timm"], each["ranks"]) for each in job_line["environments"]]
    assert found == [("1.0.9", [0]), ("0.9.1", [1])]
