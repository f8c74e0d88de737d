"""Findings of checks, as text for people and as JSON for programs."""

import dataclasses
import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.core.errors import EXIT_WHOLE, OutputError, UsageError

OK, WARNING, WRONG = "ok", "warning", "WRONG"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: name of the check.
        verdict: OK, WARNING or WRONG.
        says: the result in words.
        mend: advice on how to fix it.
        figures: the numbers behind the words, for programs.
        exit_code: exit code of the doctor, where the verdict is WRONG.
    """

    check: str
    verdict: str
    says: str
    mend: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    exit_code: int = UsageError.exit_code

    def in_words(self) -> str:
        """Return the lines of the finding in the table."""
        width = max(60, min(120, shutil.get_terminal_size((120, 24)).columns))
        text = textwrap.fill(
            self.says, width, initial_indent=f"{self.verdict:8}{self.check:10}", subsequent_indent=" " * 18
        )
        if not self.mend:
            return text
        return f"{text}\n{textwrap.fill(self.mend, width, initial_indent=' ' * 18 + '-> ', subsequent_indent=' ' * 21)}"


class FindingList:
    """The findings of all checks, in order; printed as they arrive.

    Args:
        speaks: whether this process prints.
    """

    def __init__(self, speaks: bool) -> None:
        self._speaks = speaks
        self._findings: list[Finding] = []

    def add(self, findings: Iterable[Finding]) -> None:
        """Add the findings of a check, and print them where this process prints."""
        for finding in findings:
            self._findings.append(finding)
            if self._speaks:
                print(finding.in_words(), flush=True)

    @property
    def exit_code(self) -> int:
        """The exit code of the first finding that is WRONG, or 0."""
        return next((finding.exit_code for finding in self._findings if finding.verdict == WRONG), EXIT_WHOLE)

    def close(self, seconds: float, json_path: str | None, ranks: Sequence[dict[str, Any]]) -> None:
        """Print the summary, and write everything as JSON where that was requested.

        Raises:
            OutputError: the file cannot be written.
        """
        if not self._speaks:
            return
        counts = Counter(finding.verdict for finding in self._findings)
        print(
            f"runner: {len(self._findings)} findings in {seconds:.0f} s: {counts[OK]} ok, {counts[WARNING]} to "
            f"look at, {counts[WRONG]} wrong",
            flush=True,
        )
        if json_path:
            found = [dataclasses.asdict(finding) for finding in self._findings]
            try:
                Path(json_path).write_text(
                    json.dumps({"exit_code": self.exit_code, "findings": found, "ranks": ranks}, indent=2) + "\n"
                )
            except OSError as error:
                raise OutputError(f"--json {json_path}: {error.strerror}") from error


def name_some(words: Iterable[str]) -> str:
    """Join the first three different words, and add the number of further ones."""
    named = list(dict.fromkeys(words))
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
