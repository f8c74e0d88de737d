"""What a job was: its command, its hosts, its options, and the versions of everything."""

import json
from collections import defaultdict
from html import escape
from typing import Any

from runner.reports.pages.markup import Row, Table, cell, paragraph
from runner.reports.pages.phases import PHASES
from runner.reports.pages.record import Record
from runner.reports.pages.values import UNKNOWN, size, spans


def about(record: Record) -> str:
    """The section."""
    report = record.report
    parts = []
    if command := report.get("launcher_command") or report.get("command"):
        parts.append(
            '<h3>Command</h3><div class="command"><pre tabindex=0 id="command">'
            f'{escape(str(command))}</pre><button type="button" data-copies="command">Copy</button></div>'
        )
    if record.ranks:
        parts.append("<h3>Hosts</h3>" + _hosts(record.ranks).to_html())
    if isinstance(report.get("environment"), dict) and report["environment"]:
        named = [[str(name), str(value) or UNKNOWN] for name, value in report["environment"].items() if value]
        named += [["started", str(report.get("started"))], ["canary", str(report.get("canary") or "not compared")]]
        parts.append("<h3>Environment</h3>" + Table("versions, MPI, scheduler", ("name", "value"), named).to_html())
    if record.config:
        options = [
            [f"--{name}", value if isinstance(value, str) else json.dumps(value, default=str)]
            for name, value in record.config.items()
        ]
        parts.append(
            "<h3>Options</h3>" + Table("all options, as config.toml has them", ("option", "value"), options).folded()
        )
    phases = [[phase.name, name, phase.meaning] for name, phase in PHASES.items()]
    meaning = Table("what the phases are", ("on this page", "in the files", "meaning"), phases)
    parts.append("<h3>Words</h3>" + meaning.folded())
    return "".join(parts)


def notes(record: Record) -> str:
    """What is missing, damaged or left out; empty where nothing is."""
    if not record.notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in dict.fromkeys(record.notes))
    return f'<div class="notes">{paragraph("Not everything is on this page:")}<ul>{items}</ul></div>'


def _hosts(ranks: list[dict[str, Any]]) -> Table:
    by_host = defaultdict(list)
    for rank in ranks:
        by_host[str(rank.get("host"))].append(rank)
    rows: list[Row] = []
    for host, of_host in by_host.items():
        numbers = [rank["rank"] for rank in of_host if isinstance(rank.get("rank"), int)]
        devices = sorted({str(rank.get("device")) for rank in of_host})
        threads = sorted({str(rank.get("threads")) for rank in of_host})
        held = sum(rank.get("peak_rss_bytes", 0) for rank in of_host)
        rows.append([host, spans(numbers), ", ".join(devices), ", ".join(threads), cell(held, size)])
    return Table("hosts and their ranks", ("host", "ranks", "devices", "threads a rank", "memory together"), rows)
