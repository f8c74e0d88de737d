"""Decompression of the files of a data set, once on each host, by all its ranks together."""

from runner.core.errors import Interrupted
from runner.host.stop import REASONS
from runner.job.context import Session
from runner.sources import compressed_files
from runner.sources.decompressed import Contents, Teller, adopt, hold


def share_decompressed(session: Session) -> list[Contents]:
    """Decompress the files of the data set that are compressed; every rank that computes calls it.

    The files are shared out among the ranks of a host, which then open what the others have decompressed.

    Returns:
        The contents, which are gone when no one holds them.

    Raises:
        InputError, UsageError, OutputError, Interrupted: on every rank alike.
    """
    comm, world = session.comm, session.comm.world
    paths = comm.on_root(lambda: compressed_files(session.config.data))
    if not paths:
        return []
    main = session.watchdog.main
    tell = Teller()

    def beat(words: str) -> None:
        main.begin(words)
        if world.rank == 0:
            tell(words)
        if not session.stop.may_start():
            raise Interrupted(f"stopped by {REASONS[session.stop.code]} while {words}; the same command starts again")

    hosts = comm.gather_all(world.host)
    here = [rank for rank, host in enumerate(hosts) if host == world.host]
    own_paths = paths[here.index(world.rank) :: len(here)]

    def hold_own() -> list[Contents]:
        contents = hold(own_paths, beat)
        main.wait()  # for the others
        return contents

    own = comm.on_each(hold_own)
    main.begin("opening the data")
    places = comm.gather_all([contents.place for contents in own])
    adopted = adopt([place for rank in here if rank != world.rank for place in places[rank]])
    # what this rank cannot see of the others', as in a container of its own, it decompresses itself
    return [*own, *adopted, *comm.on_each(lambda: hold(paths, beat))]
