"""Jobs that must all end in an error, in the same processes: `refused.py JOBS.json ERRORS.json`, written by rank 0."""

import json
import os
import sys
from pathlib import Path

import runner
from runner.core.errors import RunnerError

if __name__ == "__main__":
    errors = {}
    for name, options in json.loads(Path(sys.argv[1]).read_text()).items():
        try:
            runner.predict(**options, threads=1)
        except RunnerError as error:
            errors[name] = f"{error.exit_code}: {error.who}: {error}"
    if os.environ["OMPI_COMM_WORLD_RANK"] == "0":
        Path(sys.argv[2]).write_text(json.dumps(errors))
