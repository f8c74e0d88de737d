"""A hook of MkDocs: puts the files outside of docs/ that pages link to into the site, so that links work there, too."""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
_OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")  # from a page in docs/
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add what pages in docs/ link to above their folder, and what these files link to."""
    waiting = [path for page in files.documentation_pages() for path in _OUTSIDE.findall(page.content_string)]
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(path):
            continue
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            folder = os.path.dirname(path)
            linked = _LINK.findall((ROOT / path).read_text())
            waiting += [os.path.normpath(os.path.join(folder, link)) for link in linked]
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links of pages in docs/ lead to where these files are in the site."""
    return markdown if "/" in page.file.src_uri else _OUTSIDE.sub(r"](\1", markdown)
