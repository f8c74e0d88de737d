"""The connection to a database, by SQLAlchemy: opened, asked, and its errors in the database's own words."""

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
_LEAST_SECRET = 3  # shorter ones would be found in any word


class Connection:
    """A database that is asked for rows; any number of threads may.

    Args:
        path: a URL, as SQLAlchemy has them.
        inner: what is wanted of it; only looked at for whether there is anything.
        what: the data set, for messages.

    Attributes:
        engine: SQLAlchemy's.

    Raises:
        UsageError: SQLAlchemy, or the driver of the database, is missing; nothing is wanted.
        InputError: it is no URL, or names no file.
    """

    def __init__(self, path: str, inner: str, what: str) -> None:
        self._what = what
        try:
            import sqlalchemy as sa
        except ImportError as error:
            raise UsageError(
                f"{what}: reading databases needs SQLAlchemy: pip install 'horovod-inference-runner[sql]'"
            ) from error
        if not inner.strip():
            raise UsageError(f"{what} names no table: give URL::TABLE, or URL::SELECT ...")
        try:
            url = sa.engine.make_url(path)
        except (sa.exc.ArgumentError, ValueError):
            raise InputError(f"{what}: no URL of a database, such as postgresql://USER@HOST/NAME") from None
        if url.drivername == "postgresql":  # what it stands for has changed between versions of SQLAlchemy
            url = url.set(drivername="postgresql+psycopg")
        typed = _PASSWORD.search(path)  # one with an @ in it, which should be %40, is taken apart at the first
        self._secrets = {str(url.password or ""), *(typed[2].split("@") if typed else ())}
        self._file = ""
        if url.get_backend_name() == "sqlite":
            self._file = self._existing_file(url.database or "")
        try:
            # one connection is kept, for the reader's thread; another is opened for the search for bad rows
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
        """All rows of a statement's result.

        Raises:
            InputError: the database cannot be reached, or refuses.
        """
        with self.errors_for_users(), self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def names_of(self, statement: Any) -> list[str]:
        """The columns of a statement's result; raises as `fetch` does."""
        with self.errors_for_users(), self.engine.connect() as connection:
            return list(connection.execute(statement).keys())

    def stamp(self) -> str:
        """Of the file, where the database is one."""
        return file_stamp(self._file) if self._file else ""

    @contextlib.contextmanager
    def errors_for_users(self) -> Iterator[None]:
        """Errors of SQLAlchemy as InputErrors, with the database's own words."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # of one kind or another by driver
            raise InputError(f"{self._what}: {self._words(error)}") from None  # its text may hold the password

    def _words(self, error: Exception) -> str:
        original = getattr(error, "orig", None) or error
        text = " ".join(describe(original).split())
        for secret in self._secrets:
            if len(secret) >= _LEAST_SECRET:
                text = text.replace(secret, "***")
        return text

    def _existing_file(self, name: str) -> str:
        """The file of a SQLite database, which would be made where there is none."""
        if not name or name == ":memory:" or name.startswith("file:"):
            raise InputError(f"{self._what}: give the file of the SQLite database: sqlite:///FILE::TABLE")
        try:
            with open(name, "rb"):
                return os.path.abspath(name)
        except OSError as error:
            raise InputError(f"{self._what}: {name}: {error.strerror}") from error


def hide_password(path: str) -> str:
    """A URL without the password in it, whether it can be understood or not."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1***\3", path))


def _let_bad_text_pass(connection: Any, record: Any) -> None:
    """Text that is not UTF-8 would keep the rows beside it from being read; so its row is found out later."""
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
