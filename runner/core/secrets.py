"""Secrets in texts that are shown or recorded: passwords and tokens in URLs, in options and in variables."""

import re
from typing import Any

HIDDEN = "***"

_SECRET = r"(?:pass|pwd|token|secret|sig|key|cred|auth|access|cookie|bearer)"
# scheme://user:password@host: the password may itself hold / and @; a port is followed by / and is none
_PASSWORD = re.compile(r"(\w://[^:/?#@\s'\"]*:)(?!\d{1,5}/[^@\s]*(?:$|[\s'\"]))[^\s'\"]+@")
_TOKEN = re.compile(r"(\bhttps?://)[^:/?#@\s'\"]+@")
_QUERY = re.compile(rf"([?&;][^=&;#\s'\"]*{_SECRET}[^=&;#\s'\"]*=)[^&;#\s'\"]+", re.IGNORECASE)
_NAMED = re.compile(_SECRET, re.IGNORECASE)
_JSON = re.compile(rf"(\"[^\"]*{_SECRET}[^\"]*\"\s*:\s*)(\"(?:[^\"\\]|\\.)*\"|[^\s,}}\]]+)", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*=)(.+)", re.DOTALL)
_EXPORT = re.compile(r"([A-Za-z_]\w*=)[^,]*")
_ENVIRONMENT = ("-x", "-env", "-genv", "--env", "--genv")  # options of launchers, before NAME=VALUE or NAME VALUE


def hide_secrets(text: str) -> str:
    """Return a text with the passwords and tokens in its URLs hidden."""
    if "://" not in text:
        return text
    text = _PASSWORD.sub(rf"\1{HIDDEN}@", text)
    return _QUERY.sub(rf"\1{HIDDEN}", _TOKEN.sub(rf"\1{HIDDEN}@", text))


def hide_in(value: Any, name: str = "") -> Any:
    """Return a value as JSON has it with its secrets hidden: those in URLs, and those under names such as api_key."""
    if isinstance(value, dict):
        return {key: hide_in(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hide_in(inner, name) for inner in value]
    if isinstance(value, str):
        return HIDDEN if value and _NAMED.search(name) else hide_secrets(value)
    return value


def hide_in_words(words: list[str]) -> list[str]:
    """Return the words of a command line with secrets hidden: in URLs, JSON objects and variables for the ranks."""
    shown: list[str] = []
    for word in words:
        before, second = [*reversed(shown), "", ""][:2]
        if second.endswith("env") and second in _ENVIRONMENT and "=" not in before:  # -genv NAME VALUE
            safe = HIDDEN
        elif word.startswith("--export="):
            safe = "--export=" + _EXPORT.sub(rf"\1{HIDDEN}", word.removeprefix("--export="))
        elif before in _ENVIRONMENT or before.rpartition("/")[2] == "env" or before.endswith(f"={HIDDEN}"):
            safe = _ASSIGNMENT.sub(rf"\1{HIDDEN}", word)
        elif word.startswith("{"):
            safe = _JSON.sub(rf'\1"{HIDDEN}"', word)
        else:
            safe = word
        shown.append(hide_secrets(safe))
    return shown
