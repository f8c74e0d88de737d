"""The page of one output: which sections it has, in which order. What a damaged record spoils is one section alone."""

from collections.abc import Callable

from runner.reports.pages.about import about, notes
from runner.reports.pages.balance import load_balance, memory, rates
from runner.reports.pages.chunks import draw_job
from runner.reports.pages.document import Document, Section, make_document
from runner.reports.pages.groups import groups
from runner.reports.pages.headline import headline, what_went_wrong
from runner.reports.pages.history import history
from runner.reports.pages.losses import where_the_time_went
from runner.reports.pages.markup import paragraph
from runner.reports.pages.record import Record
from runner.reports.pages.speed import batches, speed_over_time
from runner.reports.pages.strips import Shares, draw_ranks, read_shares


def page_of(record: Record) -> Document:
    """The page of an output, whatever has become of it."""
    shares = read_shares(record.timeline)
    if record.timeline and shares is None:
        record.notes.append("timeline.json is there, but is not what it should be.")
    state = _guarded(lambda: record.ended[0])
    wrong = {"failed": "What went wrong", "killed": "What became of it", "running": "While it runs"}.get(
        state, "What is known"
    )
    sections = [
        Section("wrong", "Fault" if state == "failed" else "State", wrong, _guarded(lambda: what_went_wrong(record))),
        Section("where", "Time", "Where the time went", _guarded(lambda: where_the_time_went(record))),
        Section("timeline", "Ranks", "What each rank did when", _guarded(lambda: _timeline(record, shares))),
        Section("rows", "Speed", "Rows per second over time", _guarded(lambda: speed_over_time(record, shares))),
        Section("batches", "Batches", "How long batches took", _guarded(lambda: batches(record))),
        Section("load", "Load", "How even the load was", _guarded(lambda: load_balance(record))),
        Section("groups", "Groups", "How groups worked together", _guarded(lambda: groups(record))),
        Section("held", "Memory", "Memory", _guarded(lambda: memory(record))),
        Section("rates", "Rates", "Weights and predictions on their way", _guarded(lambda: rates(record))),
        Section("jobs", "Jobs", "All jobs of this output", _guarded(lambda: history(record))),
        Section(
            "about", "Command and options", "Command, hosts, environment, options", _guarded(lambda: about(record))
        ),
    ]
    summary = Section("summary", "Summary", "Summary", _guarded(lambda: headline(record)) + notes(record))
    if state in ("failed", "killed"):  # what comes first is what one looks for
        sections.insert(1, sections.pop(2))
    title = str(record.report.get("output") or record.output)
    started = record.report.get("started") or (record.jobs[-1].said.get("started") if record.jobs else "")
    since = f", started {started}" if started else ""
    return make_document(title, f"Distributed batch inference{since}", [summary, *sections])


def _timeline(record: Record, shares: Shares | None) -> str:
    if shares is not None:
        ranks = shares.of_main.shape[1]
        hosts = {rank.get("rank"): rank.get("host") for rank in record.ranks}
        names = [f"rank {rank}" + (f" on {hosts[rank]}" if rank in hosts else "") for rank in range(ranks)]
        how = (
            "The height of a colour is its share of the time. Drag to look closer, double-click to see all."
            if ranks <= 8
            else "At the top the mean of all ranks; below, each rank or a few, in the colour of what took most of the "
            "time, the fainter the smaller its share. Drag to look closer, double-click to see all."
        )
        if record.group_size > 1:
            how += (
                " Only the first rank of a group has rows; the others' 'wait for rows' is until it has the next batch."
            )
        return draw_ranks(shares, names).to_html() + paragraph(how, "note")
    return draw_job(record, record.jobs[-1]) if record.jobs else ""


def _guarded(make: Callable[[], str]) -> str:
    try:
        return make()
    except Exception as error:
        return paragraph(f"This could not be made of what is there: the records are damaged ({type(error).__name__}).")
