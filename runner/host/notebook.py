"""Notebooks: whether this process is the kernel of one, which lives on between jobs."""

import sys
import time

from runner.host.process import process_start


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook. A terminal's IPython has no kernel."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def job_start() -> float:
    """Return when a job that begins now started, in seconds since the epoch: with its process, in a notebook now."""
    return time.time() if in_notebook() else process_start()
