"""Several jobs, one after another, in the same processes: `several.py JOBS.json`, a list of the options of each."""

import json
import sys
from pathlib import Path

import runner

if __name__ == "__main__":
    for options in json.loads(Path(sys.argv[1]).read_text()):
        runner.predict(**{"threads": 1, **options})
