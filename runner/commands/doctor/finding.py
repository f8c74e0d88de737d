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

from runner.core.errors import EXIT_COMPLETE, OutputError, UsageError
from runner.core.secrets import hide_secrets
from runner.core.text import plural, rough_duration

OK = "ok"
WARNING = "warning"
WRONG = "WRONG"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: name of the check.
        verdict: OK, WARNING or WRONG.
        message: the result in words.
        fix: advice on how to fix it.
        figures: the numbers behind the words, for programs.
        exit_code: exit code of the doctor, where the verdict is WRONG.
    """

    check: str
    verdict: str
    message: str
    fix: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    exit_code: int = UsageError.exit_code

    def render(self) -> str:
        """Return the lines of the finding in the table."""
        width = max(60, min(120, shutil.get_terminal_size((120, 24)).columns))
        text = textwrap.fill(
            self.message, width, initial_indent=f"{self.verdict:8}{self.check:10}", subsequent_indent=" " * 18
        )
        if not self.fix:
            return text
        return f"{text}\n{textwrap.fill(self.fix, width, initial_indent=' ' * 18 + '-> ', subsequent_indent=' ' * 21)}"


class FindingList:
    """The findings of all checks, in order; printed as they arrive.

    Args:
        prints: whether this process prints.
    """

    def __init__(self, prints: bool) -> None:
        self._prints = prints
        self._findings: list[Finding] = []

    def add(self, findings: Iterable[Finding]) -> None:
        """Add the findings of a check, and print them where this process prints."""
        for shown in findings:
            finding = dataclasses.replace(shown, message=hide_secrets(shown.message), fix=hide_secrets(shown.fix))
            self._findings.append(finding)
            if self._prints:
                print(finding.render(), flush=True)

    @property
    def exit_code(self) -> int:
        """The exit code of the first finding that is WRONG, or 0."""
        return next((finding.exit_code for finding in self._findings if finding.verdict == WRONG), EXIT_COMPLETE)

    def close(self, seconds: float, json_path: str | None, ranks: Sequence[dict[str, Any]]) -> None:
        """Print the summary, and write everything as JSON where that was requested.

        Raises:
            OutputError: the file cannot be written.
        """
        if not self._prints:
            return
        counts = Counter(finding.verdict for finding in self._findings)
        print(
            f"runner: {plural(len(self._findings), 'finding')} in {rough_duration(seconds)}: {counts[OK]} ok, "
            f"{plural(counts[WARNING], 'warning')}, {counts[WRONG]} wrong",
            flush=True,
        )
        if json_path:
            findings = [dataclasses.asdict(finding) for finding in self._findings]
            try:
                Path(json_path).write_text(
                    json.dumps({"exit_code": self.exit_code, "findings": findings, "ranks": ranks}, indent=2) + "\n"
                )
            except OSError as error:
                raise OutputError(f"--json {json_path}: {error.strerror}") from error
