"""Several jobs, each killed on its way and then finished: `killed.py JOBS.json`, a list of the options of each.

Each runs in a process forked from this one, which has loaded everything: so it takes no time to start. The model is to
kill its process, once; it is told of a file that it may make as a note of that, and of the folder of the records.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import runner
import runner.job.run


def in_a_fork(options: dict[str, Any]) -> int:
    """Run a job; returns how its process ended, as `os.waitstatus_to_exitcode` says it."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            runner.predict(**{"threads": 1, **options})
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    for name in {options["model"].partition(":")[0] for options in jobs}:
        importlib.import_module(name)  # and what it imports
    for number, options in enumerate(jobs):
        what = f"{options['data']} -> {options['output']}"
        run_folder = options["output"].rstrip("/") + ".run"
        given = {**options, "model_args": {"flag": f"{sys.argv[1]}.{number}", "run": run_folder}}
        assert in_a_fork(given) == -signal.SIGKILL, what
        assert not Path(options["output"]).exists(), what
        assert in_a_fork(given) == 0, what
        report = json.loads(Path(run_folder, "report.json").read_text())
        assert report["status"] == "whole", what
        assert 0 < report["resumed_rows"] < report["num_rows"], what
