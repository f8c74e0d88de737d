"""Files of requests in the batch format of OpenAI's API: JSON lines, each a request, which stays as it is."""

import json
from collections.abc import Sequence
from typing import Any

from runner.data.rows import TEXT, Rows, ragged_text
from runner.sources.base import DataSpec, Source
from runner.sources.decompressed import open_text
from runner.sources.files import read_range
from runner.sources.tables.jsonl import JsonLinesSource
from runner.sources.tables.lines import TextSource

_FIELDS = {"custom_id", "method", "url", "body"}
_HEAD_BYTES = 4 << 20
_HEAD_ROWS = 8
_LONGEST = 1 << 30  # bytes of a line


def open_json_lines(spec: DataSpec) -> Source:
    """Open a file of JSON lines: as requests if it holds such, and no columns are chosen, else as a table."""
    if is_whole(spec) and holds_requests(spec.path):
        return RequestSource(spec)
    return JsonLinesSource(spec)


def is_whole(spec: DataSpec) -> bool:
    """Return whether lines are asked for as they are: no columns, or types of them."""
    return not spec.names(lambda: ()) and not spec.options.types


def holds_requests(path: str) -> bool:
    """Return whether one of the first lines of a file is a request."""
    file, _ = open_text(path)
    size = _HEAD_BYTES
    while True:
        head = read_range(file, 0, min(file.size, size)).removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
        if b"\n" in head or size >= min(file.size, _LONGEST):
            lines = [line for line in head.splitlines() if line.strip()]
            return any(_is_request(line) for line in lines[:_HEAD_ROWS])
        size *= 4  # the first line is a long one


class RequestSource(TextSource):
    """A `.jsonl` file of requests, each a row of text; empty lines are no rows."""

    skips_blank = True
    holds_requests = True

    def parse(self, block: bytes, first: int, count: int) -> Rows:
        lines: Sequence[bytes] = self._split(block)
        try:
            rows = ragged_text([line.decode().rstrip("\r\n") for line in lines])
        except UnicodeDecodeError as error:
            raise self.refusal(first, count, ValueError(f"the text is not UTF-8: {error}")) from error
        assert rows.values.dtype == TEXT
        assert len(rows) == count, (len(rows), count)
        return rows


def _is_request(line: bytes) -> bool:
    try:
        request: Any = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return False
    return isinstance(request, dict) and request.keys() >= _FIELDS and isinstance(request["body"], dict)
