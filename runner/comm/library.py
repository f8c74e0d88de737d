"""The MPI library: mpi4py is imported here and nowhere else, and the launch is compared with what MPI sees."""

from typing import Any

from runner.core.errors import RunnerError, UsageError, describe
from runner.host.launch import Launch, fitting_launcher, without_mpi
from runner.host.left_over import left_over_launch, lost_its_launcher
from runner.host.process import has_launcher_above


def load_mpi(launch: Launch) -> Any:
    """Load mpi4py's MPI, started, and check that it fits the launch.

    Raises:
        UsageError: mpi4py is missing, or the launch cannot work.
    """
    name = launch.launcher
    if refused := without_mpi(launch):
        words = "" if has_launcher_above() else ". Where it is not at work any more, unset its variables"
        raise _told_by_one(UsageError(f"{refused}{words}"))
    if lost_its_launcher():  # MPI would end this process, without a word of ours
        raise _told_by_one(UsageError(left_over_launch(launch)))
    try:
        from mpi4py import MPI
    except Exception as error:
        raise UsageError(f"mpi4py does not load ({describe(error)}); scripts/setup.sh installs it") from error
    if MPI.COMM_WORLD.Get_size() != launch.world_size:
        words = (
            f"{name} started {launch.world_size} ranks, but MPI sees {MPI.COMM_WORLD.Get_size()} (MPI library: "
            f"{library_name(MPI)}). Launcher and MPI library do not match: {fitting_launcher(launch)}"
        )
        raise _told_by_one(UsageError(left_over_launch(launch) or words))
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise _told_by_one(
            UsageError(
                f"this MPI library ({library_name(MPI)}) does not support MPI_THREAD_MULTIPLE, which the runner needs; "
                "use one that is built with it"
            )
        )
    return MPI


def library_name(mpi: Any) -> str:
    """Return the MPI library and its version."""
    return str(mpi.Get_library_version()).split(",")[0].split("\n")[0].strip("\0 ")


def _told_by_one(error: RunnerError) -> RunnerError:
    """Mark an error as shared where a launcher has started a rank 0 for sure, which tells it; and return it."""
    error.shared = has_launcher_above() is True
    return error
