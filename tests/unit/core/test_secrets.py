"""Secrets are hidden in all forms in which people write them, and what is none stays as it is."""

import shlex

import pytest

from runner.core import secrets
from runner.core.errors import InputError, render
from runner.core.printable import indented, printable
from runner.core.secrets import hide_in, hide_in_words, hide_secrets, remember_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("memory://user:SECRET@b/o.npy", "memory://user:***@b/o.npy"),
        ("postgresql://u:TOP/SECRET@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:TOP@SECRET@h/db::t", "postgresql://u:***@h/db::t"),
        ("postgresql+psycopg://u:1234@h:5432/db", "postgresql+psycopg://u:***@h:5432/db"),
        ("https://h/x.npy?X-Amz-Signature=SECRET&a=1", "https://h/x.npy?***"),
        ("https://h/x?a=1&X-Amz-Credential=A%2FB", "https://h/x?***"),
        ("https://acct.blob.core.windows.net/c/x.npy?sv=1&sig=SECRET", "https://acct.blob.core.windows.net/c/x.npy?***"),
        ("--data 'https://h/x.dat?SECRET' must end", "--data 'https://h/x.dat?***' must end"),
        ("https://h/d.parquet?code=SECRET::vec, as", "https://h/d.parquet?***::vec, as"),
        ('["https://h/a?SECRET", "https://h/b?SECRET"]', '["https://h/a?***", "https://h/b?***"]'),
        ("url=URL('https://h/a?b=SECRET'): Not found", "url=URL('https://h/a?***'): Not found"),
        ("reading https://h/a?b=SE'CRET: failed. See https://h/.", "reading https://h/a?***: failed. See https://h/."),
        ("https://u:SE?CRET@h/x", "https://u:***@h/x"),
        ("postgresql://u:SE'CR\"ET@h/db", "postgresql://u:***@h/db"),
        ("s3://bucket/part-?.npy", "s3://bucket/part-?.npy"),
        ("mysql://h/db?PASSWORD=SECRET&sslpassword=SECRET", "mysql://h/db?PASSWORD=***&sslpassword=***"),
        ("https://SECRET@host/a/b", "https://***@host/a/b"),
        ("reading 'http://u:SECRET@h/x' and https://h/y failed", "reading 'http://u:***@h/x' and https://h/y failed"),
        ("http://localhost:8080/x.npy", "http://localhost:8080/x.npy"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("s3://bucket/key@2/x.npy", "s3://bucket/key@2/x.npy"),
        ("d.npy?token=1", "d.npy?token=1"),
        ("see https://a.b/c: x@y", "see https://a.b/c: x@y"),
    ],
)  # fmt: skip
def test_in_a_url(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("mpirun -np 2 -x TOKEN=SECRET -x PATH python x", "mpirun -np 2 -x TOKEN=*** -x PATH python x"),
        ("mpiexec -genv TOKEN SECRET -n 2 python x", "mpiexec -genv TOKEN *** -n 2 python x"),
        ("mpiexec -env TOKEN=SECRET -n 2 python x", "mpiexec -env TOKEN=*** -n 2 python x"),
        ("mpirun /usr/bin/env A=SECRET B=SECRET python x", "mpirun /usr/bin/env A=*** B=*** python x"),
        ("srun --export=ALL,A=SECRET,B=SECRET python x", "srun --export=ALL,A=***,B=*** python x"),
        ("""x --model-args '{"api_key": "SEC\\"RET", "n": 3}'""", """x --model-args '{"api_key": "***", "n": 3}'"""),
        ('x --model-args \'{"n": 3, "token":12345}\'', 'x --model-args \'{"n": 3, "token": "***"}\''),
        ('x --model-args=\'{"n": 3, "keys": ["SECRET", 5]}\'', 'x --model-args=\'{"n": 3, "keys": ["***", 5]}\''),
        ('x --model-args \'{"auth": {"user": "SECRET"}}\'', 'x --model-args \'{"auth": {"user": "***"}}\''),
        ('x \'{"max_new_tokens":  9, "tokenizer": "t"}\'', 'x \'{"max_new_tokens":  9, "tokenizer": "t"}\''),
        ('x --model-args \'{"url": "https://h/a?SECRET"}\'', 'x --model-args \'{"url": "https://h/a?***"}\''),
        ('x --model-args \'{"api_key": "SECRET\'', 'x --model-args \'{"api_key": "***"\''),
        ("srun --export A=SECRET,B python x", "srun --export A=***,B python x"),
        ("mpirun --mca mca_base_env_list 'A=SECRET;B' x", "mpirun --mca mca_base_env_list 'A=***;B' x"),
        ("x my.py --api-key SECRET --password=SECRET token=SECRET", "x my.py --api-key *** --password=*** token=***"),
        (
            "x --weights-key model --ignore-keys=a --batch-tokens 5",
            "x --weights-key model --ignore-keys=a --batch-tokens 5",
        ),
        ("x --data postgresql://u:p@h/d --input c=c.npy", "x --data postgresql://u:***@h/d --input c=c.npy"),
    ],
)
def test_in_a_command(command: str, shown: str) -> None:
    assert hide_in_words(shlex.split(command)) == shlex.split(shown)


def test_in_values_by_name() -> None:
    values = {"n": 3, "api_key": "SECRET", "inner": {"Password": "SECRET", "urls": ["s3://a/b", "ftp://u:SECRET@h"]}}
    shown = {"n": 3, "api_key": "***", "inner": {"Password": "***", "urls": ["s3://a/b", "ftp://u:***@h"]}}
    assert hide_in(values) == shown
    values = {"token": 123, "pad_token_id": 3, "keys": [["SECRET"]], "auth": {"n": 5, "b": True, "none": None}}
    shown = {"token": "***", "pad_token_id": 3, "keys": [["***"]], "auth": {"n": "***", "b": True, "none": None}}
    assert hide_in(values) == shown
    once, again, other = (hide_in({"keyWord": word}, checksums=True) for word in ("SECRET", "SECRET", "SECRETS"))
    assert once == again != other
    assert len(once["keyWord"]) == len("*** 0123")


def test_a_secret_that_is_known_is_hidden_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", set())
    remember_secrets({"n": 3, "deep": {"api_key": "k3y-of-me"}, "key": "embedding", "name": "n4me-of-me"})
    error = InputError("embedding: n4me-of-me: wrong k3y-of-me", "raise ValueError('k3y-of-me')")
    assert (error.message, error.details) == ("embedding: n4me-of-me: wrong ***", "raise ValueError('***')")


def test_control_characters_do_nothing() -> None:
    assert printable("a\x1b]0;title\x07b\x9bc\u202ed\r\te\nf") == "a\\x1b]0;title\\x07b\\x9bc\\u202ed\\r\te\nf"
    assert indented("bad\nrunner: 100 rows -> out.npy (complete)") == "bad\n    runner: 100 rows -> out.npy (complete)"
    error = InputError("\x1b[2Jread http://u:SECRET@h\nrunner: done", "http://u:SECRET@h\x1b[2J")
    assert render(error) == "http://u:***@h\\x1b[2J\nrunner: error: \\x1b[2Jread http://u:***@h\n    runner: done"
