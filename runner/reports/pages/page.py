"""The page of one output: which sections it has, in which order."""

import contextlib
import json
from collections import defaultdict

from runner.reports.pages.balance import load_balance, memory, rates
from runner.reports.pages.blocks import Block, Blocks, Row, Table, prose
from runner.reports.pages.chunks import draw_job
from runner.reports.pages.document import make_page, make_section
from runner.reports.pages.groups import groups
from runner.reports.pages.history import history
from runner.reports.pages.losses import where_the_time_went
from runner.reports.pages.phases import PHASES
from runner.reports.pages.record import Record
from runner.reports.pages.speed import batches, speed_over_time
from runner.reports.pages.strips import MOST_STRIPS, Shares, draw_ranks, read_shares
from runner.reports.pages.summary import headline, what_went_wrong
from runner.reports.pages.values import Fields, size, spans

_WRONG = {"failed": "What went wrong", "killed": "What became of it", "running": "While it runs"}
_FEW = "The height of a color is its share of the time. Drag to look closer, double-click to see all."
_MANY = (
    "At the top the mean of all ranks; below, each rank or a few, in the color of what took most of the time, the "
    "fainter the smaller its share. Drag to look closer, double-click to see all."
)
_LEADERS = " Only the first rank of a group has rows; the others' 'wait for rows' is until it has the next batch."


def page_of(record: Record) -> str:
    """Draw the page of an output, whatever has become of it."""
    shares, state = read_shares(record.timeline), ""
    if record.timeline and shares is None:
        record.notes.append("timeline.json is there, but is not what it should be.")
    with contextlib.suppress(Exception):
        state = record.ended[0]
    about = "Command, hosts, environment, options"
    sections = [
        make_section("wrong", "Fault" if state == "failed" else "State", _WRONG.get(state, "What is known"),
                     lambda: what_went_wrong(record)),
        make_section("where", "Time", "Where the time went", lambda: where_the_time_went(record)),
        make_section("timeline", "Ranks", "What each rank did when", lambda: _timeline(record, shares)),
        make_section("rows", "Speed", "Rows per second over time", lambda: speed_over_time(record, shares)),
        make_section("batches", "Batches", "How long batches took", lambda: batches(record)),
        make_section("load", "Load", "How even the load was", lambda: load_balance(record)),
        make_section("groups", "Groups", "How groups worked together", lambda: groups(record)),
        make_section("held", "Memory", "Memory", lambda: memory(record)),
        make_section("rates", "Rates", "Weights and predictions on their way", lambda: rates(record)),
        make_section("jobs", "Jobs", "All jobs of this output", lambda: history(record)),
        make_section("about", "Command and options", about, lambda: _about(record)),
    ]  # fmt: skip
    summary = make_section("summary", "Summary", "Summary", lambda: headline(record), lambda: _notes(record))
    if state in ("failed", "killed"):  # what comes first is what one looks for
        sections.insert(1, sections.pop(2))
    started = record.report.get("started") or (record.jobs[-1].start.get("started") if record.jobs else "")
    subtitle = "Distributed batch inference" + (f", started {started}" if started else "")
    return make_page(str(record.report.get("output") or record.output), subtitle, [summary, *sections])


def _timeline(record: Record, shares: Shares | None) -> Blocks:
    if shares is None:
        return draw_job(record, record.jobs[-1]) if record.jobs else []
    ranks = range(shares.of_main.shape[1])
    hosts = {rank.get("rank"): rank.get("host") for rank in record.ranks}
    names = [f"rank {rank}" + (f" on {hosts[rank]}" if rank in hosts else "") for rank in ranks]
    how = (_FEW if len(ranks) <= MOST_STRIPS else _MANY) + (_LEADERS if record.group_size > 1 else "")
    return [draw_ranks(shares, names), prose(how, "note")]


def _notes(record: Record) -> Blocks:
    """Say what is missing, damaged or left out."""
    return [Block("notes", list(dict.fromkeys(record.notes)))] if record.notes else []


def _about(record: Record) -> Blocks:
    """Show the command, the hosts, the options, and the versions of everything."""
    report, environment = record.report, record.report.fields("environment")
    blocks: list[Block | Table] = []
    if command := report.get("launcher_command") or report.get("command"):
        blocks += [Block("heading", "Command"), Block("command", command)]
    if record.ranks:
        blocks += [Block("heading", "Hosts"), _hosts(record.ranks)]
    if environment:
        named = [(name, str(value)) for name, value in environment.items() if value]
        named += [("started", str(report.get("started"))), ("canary", str(report.get("canary") or "not compared"))]
        blocks += [Block("heading", "Environment"), Table("versions, MPI, scheduler", ("name", "value"), named)]
    if record.config:
        options = [
            (f"--{name}", value if isinstance(value, str) else json.dumps(value, default=str))
            for name, value in record.config.items()
        ]
        table = Table("all options, as config.toml has them", ("option", "value"), options, is_folded=True)
        blocks += [Block("heading", "Options"), table]
    phases = [(phase.name, name, phase.meaning) for name, phase in PHASES.items()]
    words = Table("what the phases are", ("on this page", "in the files", "meaning"), phases, is_folded=True)
    return [*blocks, Block("heading", "Words"), words]


def _hosts(ranks: list[Fields]) -> Table:
    by_host = defaultdict(list)
    for rank in ranks:
        by_host[str(rank.get("host"))].append(rank)
    rows: list[Row] = []
    for host, of_host in by_host.items():
        numbers = [rank["rank"] for rank in of_host if isinstance(rank.get("rank"), int)]
        kinds = (", ".join(sorted({str(rank.get(name)) for rank in of_host})) for name in ("device", "threads"))
        rows.append((host, spans(numbers), *kinds, size(sum(rank.get("peak_rss_bytes", 0) for rank in of_host))))
    return Table("hosts and their ranks", ("host", "ranks", "devices", "threads a rank", "memory together"), rows)
