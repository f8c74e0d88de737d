"""Command line: runs each command and turns exceptions into messages and exit codes; nothing else."""

import errno
import gc
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from runner.cli.arguments import Command, make_predict_config, parse, predict_options
from runner.config.options import make_config
from runner.core.errors import (
    EXIT_COMPLETE,
    EXIT_STOPPED,
    OutputError,
    RunnerError,
    UsageError,
    as_runner_error,
    describe,
    render,
    shared,
)
from runner.core.messages import drop_unprinted, open_closed_streams, tell
from runner.core.printable import printable
from runner.core.secrets import hide_secrets
from runner.host.cpus import prevent_binding
from runner.host.launch import detect_launch, without_mpi
from runner.host.process import has_launcher_above, own_origin
from runner.host.stop import SIGNALS, leave_on_signal
from runner.telemetry.terminal import tell_on_terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    open_closed_streams()
    prevent_binding()
    try:
        _look_where_we_are()
        command = parse(arguments)
        return _COMMANDS[command.name](command)
    except Exception as exception:
        error = as_runner_error(exception)
        if isinstance(error, UsageError) and has_launcher_above() and (refused := without_mpi(detect_launch())):
            error = shared(UsageError(refused))  # deepspeed adds --local_rank, say
        _show(error)
        return error.exit_code
    finally:
        drop_unprinted()


def _look_where_we_are() -> None:
    """Reject a current folder that is gone: PyTorch ends a process in it, without a word about it."""
    try:
        os.getcwd()
    except OSError as error:
        raise shared(
            UsageError(f"the current folder is gone ({error.strerror}): change to one that is there")
        ) from error


def _predict(command: Command) -> int:
    launch = detect_launch()
    is_root = launch.rank == 0
    origin = own_origin() if launch.launcher != "none" else None
    leave_on_signal("runner: stopped by a signal before the job began" if is_root else "", origin)
    config = make_predict_config(command.given)
    if is_root:
        tell_on_terminal("loading PyTorch ...")
    # Loading PyTorch makes so many objects that the garbage collector, which finds nothing to free, takes a tenth of
    # the time. At the end of the process, unless they are frozen, it takes longer than the start of many a job.
    gc.disable()
    try:
        from runner.job.run import run
    except (OSError, MemoryError) as error:  # no folder for temporary files, say
        raise UsageError(f"PyTorch does not load: {describe(error)}") from error

    gc.freeze()
    gc.enable()
    try:
        report = run(config)
    finally:
        gc.freeze()
    if is_root:
        with suppress(OutputError):  # the output is complete, or what is done is kept, whoever hears of it
            _say(f"runner: {report.summary()}")
    if report.status == "whole":
        return EXIT_COMPLETE
    _leave_together()
    return EXIT_STOPPED


def _verify(command: Command) -> int:
    from runner.commands.verify import verify

    _say(f"runner: {verify(command.given['output'], command.given.get('data'))}")
    return EXIT_COMPLETE


def _explain(command: Command) -> int:
    from runner.records.explain import explain

    _say(explain(command.given["output"]))
    return EXIT_COMPLETE


def _watch(command: Command) -> int:
    from runner.commands.watch import follow

    _say(follow(command.given["output"]))
    return EXIT_COMPLETE


def _report(command: Command) -> int:
    from runner.reports.pages import report

    _say(report(command.given["outputs"], command.given.get("html")))
    return EXIT_COMPLETE


def _inspect(command: Command) -> int:
    config = make_config({**command.given, "data": ()})  # inspect takes no data
    from runner.commands.inspect import inspect_model

    _say(inspect_model(config))
    return EXIT_COMPLETE


def _hosts(command: Command) -> int:
    from runner.commands.hosts import write_hostfile

    _say(write_hostfile(command.given.get("hosts"), command.given.get("slots")), end="")
    return EXIT_COMPLETE


def _plan(command: Command) -> int:
    config = make_predict_config(predict_options(command.predict))
    from runner.commands.plan import plan

    _say(plan(config, command.given))
    return EXIT_COMPLETE


def _submit(command: Command) -> int:
    from runner.commands.submit import submit

    options = predict_options(command.predict)
    return submit(command.given, command.predict, options, make_predict_config(options))


def _doctor(command: Command) -> int:
    from runner.commands.doctor import doctor

    code = doctor(command.given, predict_options(command.predict))
    if code:
        _leave_together()
    return code


_COMMANDS: dict[str, Callable[[Command], int]] = {
    "predict": _predict,
    "verify": _verify,
    "explain": _explain,
    "watch": _watch,
    "report": _report,
    "inspect": _inspect,
    "hosts": _hosts,
    "plan": _plan,
    "submit": _submit,
    "doctor": _doctor,
}


def _say(text: str, end: str = "\n") -> None:
    """Print a result; names and texts in it may be those of others."""
    try:
        print(printable(hide_secrets(text)), end=end, flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):  # who reads, such as head, has seen enough; a closed terminal
            raise OutputError(f"the result cannot be printed: {error.strerror}") from error


def _show(error: RunnerError) -> None:
    """Print an error once: rank 0 prints an error that every rank has; otherwise the failed rank prints its own."""
    launch = detect_launch()
    if launch.rank == 0:
        tell(render(error))
    if launch.world_size == 1:
        return
    _leave_together()
    if launch.rank and not error.shared:
        error.who = error.who or f"rank {launch.rank} of {launch.world_size}"
        tell(render(error))


def _leave_together() -> None:
    """Wait a moment, so that each rank leaves with its own exit code, and rank 0 after it has printed its message.

    A launcher ends the other ranks by a signal as soon as one has left with an exit code other than 0.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if detect_launch().world_size > 1:
        time.sleep(1.0)
