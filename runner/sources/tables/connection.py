"""The connection to a database, by SQLAlchemy: opening, queries, and errors in the database's own words."""

import contextlib
import os
import re
import weakref
from collections.abc import Iterator
from typing import Any

from runner.core.errors import InputError, UsageError, describe
from runner.sources.files import file_stamp

_PASSWORD = re.compile(r"(://[^:/@]*:)(.*)(@)")
_SECRET = re.compile(r"([?&][^=&]*(?:password|passwd|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)
_LEAST_SECRET = 3  # characters; shorter ones occur in any word


class Connection:
    """A database that can be queried for rows, from any number of threads.

    Args:
        path: a URL in SQLAlchemy's form.
        inner: requested table or query; only checked for being empty.
        what: the data set, for messages.

    Attributes:
        engine: the engine of SQLAlchemy.

    Raises:
        UsageError: the driver of the database is missing; no table or query is given.
        InputError: the URL is invalid, or names no file.
    """

    def __init__(self, path: str, inner: str, what: str) -> None:
        self._what = what
        import sqlalchemy as sa

        if not inner.strip():
            raise UsageError(f"{what} names no table: give URL::TABLE, or URL::SELECT ...")
        try:
            url = sa.engine.make_url(path)
        except (sa.exc.ArgumentError, ValueError):
            raise InputError(f"{what}: no URL of a database, such as postgresql://USER@HOST/NAME") from None
        if url.drivername == "postgresql":  # the driver behind this name differs between versions of SQLAlchemy
            url = url.set(drivername="postgresql+psycopg")
        typed = _PASSWORD.search(path)  # SQLAlchemy splits a password with an @, which should be %40, at the first one
        self._secrets = {str(url.password or ""), *(typed[2].split("@") if typed else ())}
        self._file = ""
        if url.get_backend_name() == "sqlite":
            self._file = self._existing_file(url.database or "")
        try:
            # one connection is kept, for the reader's thread; others are opened for the search for bad rows
            self.engine = sa.create_engine(
                url, poolclass=sa.pool.QueuePool, pool_size=1, max_overflow=2, pool_pre_ping=True
            )
            if self.engine.dialect.is_async:
                raise UsageError(f"{what}: {url.drivername} is no driver for programs that wait for an answer")
        except ImportError as error:
            raise UsageError(
                f"{what} needs the driver {error.name}: pip install 'horovod-inference-runner[sql]' brings the one "
                "for PostgreSQL; SQLAlchemy's documentation names others"
            ) from error
        except sa.exc.ArgumentError as error:
            raise InputError(f"{what}: {self._words(error)}") from None
        if self._file:
            sa.event.listen(self.engine, "connect", _let_bad_text_pass)
        weakref.finalize(self, self.engine.dispose)

    def fetch(self, statement: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a statement's result.

        Raises:
            InputError: the database cannot be reached, or rejects the statement.
        """
        with self.errors_for_users(), self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def names_of(self, statement: Any) -> list[str]:
        """Return the column names of a statement's result; for errors see `fetch`."""
        with self.errors_for_users(), self.engine.connect() as connection:
            return list(connection.execute(statement).keys())

    def stamp(self) -> str:
        """Return the stamp of the file where the database is one, else ""."""
        return file_stamp(self._file) if self._file else ""

    @contextlib.contextmanager
    def errors_for_users(self) -> Iterator[None]:
        """Convert errors of SQLAlchemy to InputErrors, with the database's own words."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # the types depend on the driver
            raise InputError(f"{self._what}: {self._words(error)}") from None  # its text may hold the password

    def _words(self, error: Exception) -> str:
        original = getattr(error, "orig", None) or error
        text = " ".join(describe(original).split())
        for secret in self._secrets:
            if len(secret) >= _LEAST_SECRET:
                text = text.replace(secret, "***")
        return text

    def _existing_file(self, name: str) -> str:
        """Return the path of a SQLite file; a missing one would be created on connecting."""
        if not name or name == ":memory:" or name.startswith("file:"):
            raise InputError(f"{self._what}: give the file of the SQLite database: sqlite:///FILE::TABLE")
        try:
            with open(name, "rb"):
                return os.path.abspath(name)
        except OSError as error:
            raise InputError(f"{self._what}: {name}: {error.strerror}") from error


def hide_password(path: str) -> str:
    """Return a URL with its password masked, whether or not the URL can be parsed."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1***\3", path))


def _let_bad_text_pass(connection: Any, record: Any) -> None:
    """Decode invalid UTF-8 without an error, which would block the rows beside it; its row is found later."""
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
