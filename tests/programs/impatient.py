"""The command line, with a doctor that waits five seconds for files of other hosts."""

import sys

import runner.commands.doctor.storage
from runner.cli.main import main

runner.commands.doctor.storage._PATIENCE_SECONDS = 5.0

if __name__ == "__main__":
    sys.exit(main())
