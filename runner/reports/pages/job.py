"""The page of one output: which sections it has, in which order."""

import contextlib
import json
from collections import defaultdict

from runner.host.command_line import shown_command
from runner.reports.pages.bad_rows import bad_rows
from runner.reports.pages.batches import how_long_batches_took, rows_over_time
from runner.reports.pages.groups import groups
from runner.reports.pages.history import history
from runner.reports.pages.load import load_balance, memory, rates
from runner.reports.pages.losses import where_the_time_went
from runner.reports.pages.page import Section, Values, draw_page
from runner.reports.pages.phases import PHASES
from runner.reports.pages.ranks import what_ranks_did
from runner.reports.pages.record import Record
from runner.reports.pages.summary import headline, what_went_wrong
from runner.reports.pages.timeline import read_timeline
from runner.reports.pages.values import Fields, number, spans

USUAL_SECTIONS = ("summary", "where", "timeline", "rows", "batches", "load", "rates", "about")
_WRONG = {"failed": "What went wrong", "killed": "What became of it", "running": "While it runs"}


def page_of(record: Record) -> str:
    """Draw the page of an output, whatever has become of it."""
    timeline, state = read_timeline(record.timeline), ""
    if record.timeline and timeline is None:
        record.notes.append("timeline.json is there, but is not what it should be.")
    with contextlib.suppress(Exception):
        state = record.ended[0]
    sections = [
        Section("summary", "Summary", "Summary", lambda: headline(record)),
        Section("wrong", "Fault" if state == "failed" else "State", _WRONG.get(state, "What is known"),
                lambda: what_went_wrong(record)),
        Section("bad", "Bad rows", "Rows set aside", lambda: bad_rows(record)),
        Section("where", "Time", "Where the time went", lambda: where_the_time_went(record)),
        Section("timeline", "Ranks", "What each rank did when", lambda: what_ranks_did(record, timeline)),
        Section("rows", "Speed", "Rows per second over time", lambda: rows_over_time(record, timeline)),
        Section("batches", "Batches", "How long batches took", lambda: how_long_batches_took(record)),
        Section("load", "Load", "How even the load was", lambda: load_balance(record)),
        Section("groups", "Groups", "How groups worked together", lambda: groups(record)),
        Section("held", "Memory", "Memory", lambda: memory(record)),
        Section("rates", "Rates", "Weights and predictions on their way", lambda: rates(record)),
        Section("jobs", "Jobs", "All jobs of this output", lambda: history(record)),
        Section("about", "Command and options", "Command, hosts, environment, options", lambda: about(record)),
    ]  # fmt: skip
    if state in ("failed", "killed"):  # what comes first is what one looks for
        sections.insert(3, sections.pop(4))
    started = record.report["started"] or (record.jobs[-1].start["started"] if record.jobs else "")
    subtitle = "Distributed batch inference" + (f", started {started}" if started else "")
    return draw_page(str(record.report["output"] or record.output), subtitle, sections, record.notes)


def about(record: Record) -> Values:
    """Show the command, the hosts, the options, and the versions of everything."""
    report, start = record.report, record.jobs[-1].start if record.jobs else Fields()
    told = report or start  # a job that has failed has no report
    environment = [*(told.fields("environment") or start.fields("versions")).items()]
    if environment:
        environment.append(("started", told["started"]))
    if environment and report:
        environment.append(("canary", report["canary"] or "not compared"))
    return {
        "command": shown_command(str(told["launcher_command"] or told["command"] or "")),
        "hosts": _hosts(record.ranks),
        "counts": [*start.fields("hosts").items()],
        "environment": [(name, value) for name, value in environment if value],
        "options": [
            (f"--{name}", value if isinstance(value, str) else json.dumps(value, default=str))
            for name, value in record.config.items()
        ],
        "phases": [(phase.name, name, phase.meaning) for name, phase in PHASES.items()],
    }


def _hosts(ranks: list[Fields]) -> list[Values]:
    by_host = defaultdict(list)
    for rank in ranks:
        by_host[str(rank["host"])].append(rank)
    return [
        {
            "host": host,
            "ranks": spans([rank["rank"] for rank in own if isinstance(rank["rank"], int)]),
            "devices": ", ".join(sorted({str(rank["device"]) for rank in own})),
            "threads": ", ".join(sorted({str(rank["threads"]) for rank in own})),
            "memory": sum(number(rank["peak_rss_bytes"]) for rank in own),
        }
        for host, own in by_host.items()
    ]
