"""The known name that a mistyped one is most like."""

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the nearest of `known`; empty where none is near."""
    near = nearest_name(name, known)
    return f"; did you mean {near}?" if near else ""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the name among `known` that is most like `name`; None where none is near."""
    import difflib  # only here: few commands have a name wrong

    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)
