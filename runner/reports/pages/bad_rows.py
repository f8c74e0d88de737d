"""Rows that were set aside, and why: the first of them."""

from runner.reports.pages.page import Values
from runner.reports.pages.record import Record
from runner.reports.pages.values import Fields

_MOST_ROWS = 40
_LONGEST = 1000  # letters of an error


def bad_rows(record: Record) -> Values:
    """Show the rows that were set aside, with their errors; nothing where there are none."""
    if not record.num_bad > 0:
        return {}
    rows = [
        {"row": bad["row"], "kept": _kept(bad.fields("kept")), "error": str(bad["error"] or "")[:_LONGEST]}
        for bad in record.bad_rows(_MOST_ROWS)
    ]
    return {"record": record, "rows": rows, "has_kept": any(row["kept"] for row in rows)}


def _kept(values: Fields) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
