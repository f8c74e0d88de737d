"""Secrets in texts that are shown or recorded: passwords and tokens in URLs, in options and in variables."""

import json
import re
import zlib
from typing import Any

HIDDEN = "***"

_SECRET = r"(?:pass|pwd|token|secret|sig|key|cred|auth|access|cookie|bearer)"
# scheme://user:password@host: the password may itself hold / and @; a port is followed by / and is none
_PASSWORD = re.compile(r"(\w://[^:/?#@\s'\"]*:)(?!\d{1,5}/[^@\s]*(?:$|[\s'\"]))\S+@")
_TOKEN = re.compile(r"(\bhttps?://)[^:/?#@\s'\"]+@")
_QUERY = re.compile(rf"([?&;][^=&;#\s'\"]*{_SECRET}[^=&;#\s'\"]*=)[^&;#\s'\"]+", re.IGNORECASE)
# the query of a web server's URL, up to ::COLUMN, a quote, or punctuation at the end of a word
_WEB_QUERY = re.compile(r"(\bhttps?://[^\s?\"]*\?)[^\s\"]+?(?=::|\"|[.,:;)\]']*(?:\s|$))")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of a name, such as apiKey or API_KEY
_SECRET_WORD = re.compile(r"sig|cred|auth|pass|access|bearer|.*(?:passwd|passphrase|credential|authorization|cookie|"
                          r"password|pwd|token|secret|signature|key)", re.IGNORECASE)  # fmt: skip
_JSON = re.compile(rf"(\"[^\"]*{_SECRET}[^\"]*\"\s*:\s*)(\"(?:[^\"\\]|\\.)*\"|[^\s,}}\]]+)", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*=)(.+)", re.DOTALL)
_NAMED = re.compile(r"-{0,2}([A-Za-z_][\w.-]*)(?:=(.*))?", re.DOTALL)
_EXPORT = re.compile(r"([A-Za-z_]\w*=)[^,;]*")
_ENVIRONMENT = ("-x", "--x", "-env", "-genv", "--env", "--genv")  # before NAME=VALUE or NAME VALUE, of launchers
_EXPORTS = ("--export", "mca_base_env_list")  # before lists of NAME=VALUE
_NO_SECRETS = ("weights-key", "ignore-keys", "batch-tokens")  # options of the runner whose names are like secrets'
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])\S{8,}")  # other texts may be words that occur anywhere

_known: set[str] = set()


def hide_secrets(text: str) -> str:
    """Return a text with the passwords and tokens in its URLs hidden, and all of the query of a web server's URL."""
    for secret in _known:
        text = text.replace(secret, HIDDEN)
    if "://" not in text:
        return text
    text = _TOKEN.sub(rf"\1{HIDDEN}@", _PASSWORD.sub(rf"\1{HIDDEN}@", text))
    return _QUERY.sub(rf"\1{HIDDEN}", _WEB_QUERY.sub(rf"\1{HIDDEN}", text))


def hide_in(value: Any, checksums: bool = False) -> Any:
    """Return a value as JSON has it with its secrets hidden: those in URLs, and those under names such as api_key.

    Args:
        value: the value.
        checksums: whether those under names get a checksum, by which another one is noticed, too short to guess by.
    """
    return _hide(value, "", False, checksums)


def remember_secrets(value: Any) -> None:
    """Hide the secrets under names in a value from now on wherever they occur, such as in an exception of the user."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, str) and _is_secret(str(key), inner) and _RANDOM.fullmatch(inner):
            _known.add(inner)
        remember_secrets(inner)


def hide_in_words(words: list[str]) -> list[str]:
    """Return the words of a command line with secrets hidden: in URLs, JSON objects, options and variables."""
    shown: list[str] = []
    for word in words:
        shown.append(hide_secrets(_hide_word(word, *[*reversed(shown), "", ""][:2])))
    return shown


def _hide_word(word: str, before: str, second: str) -> str:
    """Return a word with its secrets hidden, by the two words before it."""
    if second.endswith("env") and second in _ENVIRONMENT and "=" not in before:  # -genv NAME VALUE
        return HIDDEN
    if before in _EXPORTS or word.startswith("--export="):
        option = "--export=" * word.startswith("--export=")
        return option + _EXPORT.sub(rf"\1{HIDDEN}", word.removeprefix(option))
    if before in _ENVIRONMENT or before.rpartition("/")[2] == "env" or before.endswith(f"={HIDDEN}"):
        return _ASSIGNMENT.sub(rf"\1{HIDDEN}", word)
    if "{" in word:
        return _hide_json(word)
    if _names_secret(before) and before.startswith("--") and "=" not in before:
        return HIDDEN
    if _names_secret(word) and "=" in word:
        return f"{word.partition('=')[0]}={HIDDEN}"
    return word


def _names_secret(word: str) -> bool:
    """Return whether a word is an option or an assignment, such as --api-key or token=1."""
    match = _NAMED.fullmatch(word)
    return match is not None and match[1] not in _NO_SECRETS and _is_secret(match[1], match[2] or "")


def _hide_json(word: str) -> str:
    """Return a word with the secrets of the JSON object in it hidden; of something like one where it is none."""
    option, brace, text = word.partition("{")
    try:
        value = json.loads(brace + text)
    except ValueError:
        return _JSON.sub(rf'\1"{HIDDEN}"', word)
    shown = hide_in(value)
    return word if shown == value else option + json.dumps(shown)


def _hide(value: Any, name: str, is_secret: bool, checksums: bool) -> Any:
    if isinstance(value, dict):
        is_secret = is_secret or _is_secret(name, "")
        return {key: _hide(inner, str(key), is_secret, checksums) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hide(inner, name, is_secret, checksums) for inner in value]
    if not isinstance(value, str | int | float) or isinstance(value, bool) or value == "":
        return value
    if not (is_secret or _is_secret(name, value)):
        return hide_secrets(value) if isinstance(value, str) else value
    return f"{HIDDEN} {zlib.crc32(str(value).encode()) & 0xFFFF:04x}" if checksums else HIDDEN


def _is_secret(name: str, value: Any) -> bool:
    """Return whether a name is that of a secret; of numbers only api_key and the like: not max_tokens, token_id."""
    words = _WORDS.findall(name)
    if isinstance(value, str):
        return any(_SECRET_WORD.fullmatch(word.removesuffix("s")) or _SECRET_WORD.fullmatch(word) for word in words)
    return bool(words) and _SECRET_WORD.fullmatch(words[-1]) is not None
