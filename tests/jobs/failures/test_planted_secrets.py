"""Secrets that are planted wherever people put them are in nothing that jobs print or leave behind."""

import json
import shlex
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launch import environment, mpirun, predict_command, python, run, run_here
from reference import random_rows

NUM_SECRETS = 24
SECRETS = [f"pl4nted-{number:02d}x" for number in range(NUM_SECRETS)]
(
    EXPORTED, LISTED, WRAPPED, INHERITED, PASSWORD_OF_DATABASE, NETRC,  # variables and files
    API_KEY, NESTED, IN_A_LIST, IN_A_URL, RAISED, SET_ASIDE,  # arguments of the model
    LOGIN, SIGNATURE, CODE, FRAGMENT, FIRST, SECOND,  # URLs of data
    OF_THE_OUTPUT,
    BEFORE_SLASH, AFTER_AT, OF_THE_QUERY,  # a URL of a database
    OPTION, ASSIGNED,  # options of the user's own program
) = SECRETS  # fmt: skip

MODEL = """
import torch
from torch import nn


class Keyed(nn.Module):
    def __init__(self, api_key="", bad_row=1e9, **more):
        super().__init__()
        self.linear, self.api_key, self.bad_row = nn.Linear(8, 3), api_key, bad_row

    def forward(self, rows):
        if (rows[:, 0] == self.bad_row).any():
            raise ValueError(f"the server rejects the key {self.api_key} of https://h/x?key={self.api_key}")
        return self.linear(rows)


def raises(token):
    raise PermissionError(f"wrong token {token}")
"""

PROGRAM = """
import json
import sys

import runner

runner.predict(model="keyed:Keyed", data=json.loads(sys.argv[-1]), output="listed.npy", weights="none")
"""


class Part(SimpleHTTPRequestHandler):
    """A web server that gives parts of files, whatever the query."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A host that serves the rows, which are not in the folder of the jobs."""
    (tmp_path / "web").mkdir()
    rows = random_rows(200, 8)
    rows[77, 0] = 5
    np.save(tmp_path / "web/d.npy", rows)
    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Part(*args, directory=tmp_path / "web")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def found_in(folder: Path, printed: list[str]) -> list[tuple[str, str]]:
    """Each secret that is in a file or its name, or in what was printed, with the place."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    places = files | {f"output {number}": text.encode() for number, text in enumerate(printed)}
    assert len(files) > 20
    return [(place, s) for place, text in places.items() for s in SECRETS if s.encode() in place.encode() + text]


def test_planted_secrets_are_found_nowhere(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    (tmp_path / "keyed.py").write_text(MODEL)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login user password {NETRC}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PGPASSWORD", PASSWORD_OF_DATABASE)
    own = {"HOME": str(tmp_path), "AWS_SECRET_ACCESS_KEY": INHERITED}
    env = environment(**own) | {"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"}
    launcher = [*mpirun(2), "-x", f"TOKEN={EXPORTED}", "--mca", "mca_base_env_list", f"LISTED={LISTED};HOME"]
    launcher += ["env", f"WRAPPED={WRAPPED}"]
    arguments = {
        "api_key": API_KEY,
        "login": {"password": NESTED, "tokens": [IN_A_LIST, IN_A_LIST]},
        "url": f"https://u:{IN_A_URL}@host/x",
    }
    data = f"http://user:{LOGIN}@{web}/d.npy?X-Amz-Signature={SIGNATURE}&code={CODE}#{FRAGMENT}"
    options = ["--model", "keyed:Keyed", "--weights", "none", "--batch-size", "16", "--data", data]
    job = [*options, "--model-args", json.dumps(arguments), "--output", f"memory://user:{OF_THE_OUTPUT}@b/whole.npy"]
    outcomes = [
        run(predict_command(*job, "--trace", "--metrics", "m.prom", "-vv", launcher=launcher), folder, env=env),
    ]
    assert outcomes[-1].code == 0, outcomes[-1].output
    lists = json.dumps([f"http://{web}/d.npy?sig={FIRST}", f"http://u:{SECOND}@{web}/d.npy?download=1"])
    words = [*launcher, *python(), tmp_path / "program.py", "--api-key", OPTION, f"secret={ASSIGNED}", lists]
    outcomes.append(run(words, folder, env=env))
    assert outcomes[-1].code == 0, outcomes[-1].output

    database = f"postgresql://u:{BEFORE_SLASH}/x@{AFTER_AT}@127.0.0.1:1/db?sslpassword={OF_THE_QUERY}::t"
    bad = [*options, "--model-args", json.dumps({"api_key": SET_ASIDE, "bad_row": 5.0})]
    raising = ["--model", "keyed:raises", "--model-args", json.dumps({"token": RAISED})]
    here: list[tuple[int, list[str]]] = [
        (65, ["predict", *options[:-1], database, "--output", "database.npy"]),
        (65, ["predict", *options[2:], *raising, "--output", "raised.npy"]),
        (65, ["predict", *bad, "--output", "failed.npy"]),
        (0, ["predict", *bad, "--output", "aside.npy", "--on-error", "quarantine"]),
        (0, ["plan", *job]),
        (0, ["doctor", *job, "--json", "doctor.json"]),
        (0, ["inspect", "keyed:Keyed", "--model-args", json.dumps(arguments)]),
        (0, ["explain", "failed.npy"]),
        (0, ["report", "whole.npy", "aside.npy"]),
        (0, ["verify", "aside.npy"]),
    ]
    for code, command in here:
        outcomes.append(run_here(*command, folder=folder))
        assert outcomes[-1].code == code, (command, outcomes[-1].output)
    assert found_in(folder, [outcome.output for outcome in outcomes]) == []
    # what submit prints is the job itself, as it was typed
    printed = run_here("submit", "--print", "--launcher", "slurm", *job, folder=folder)
    assert (printed.code, data in shlex.split(printed.output)) == (0, True), printed.output
    assert found_in(folder, []) == []
