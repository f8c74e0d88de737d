"""Tables, views and queries of SQLite and of a real PostgreSQL server, against what the databases say themselves."""

import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from launch import LAUNCHERS, predict_command, predict_here, run

from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, Ragged, RowType
from runner.data.tensors import as_batch
from runner.sources import open_source

NUM_ROWS = 2503
PASSWORD = "very:secret"


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


def values() -> list[tuple[Any, ...]]:
    """Keys with gaps between them, whole numbers, floats, text, booleans."""
    return [(row * 3 - 100, row % 7, row / 3, f"größe {row} " * (row % 4), row % 2 == 0) for row in range(NUM_ROWS)]


def fill(url: str) -> None:
    """The tables of all tests below."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    meta = sa.MetaData()
    columns = [sa.Column("whole", sa.Integer), sa.Column("x", sa.Float), sa.Column("Text of it", sa.String)]
    table = sa.Table("t", meta, sa.Column("id", sa.Integer, primary_key=True), *columns, sa.Column("even", sa.Boolean))
    pairs = sa.Table(
        "pairs",
        meta,
        sa.Column("x", sa.Float),
        sa.Column("name", sa.String(20), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
    )
    sa.Table("empty", meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", sa.Float))
    odd = sa.Table("odd", meta, sa.Column("a", sa.Integer), sa.Column("b", sa.LargeBinary))
    meta.create_all(engine)
    rng = np.random.default_rng(0)
    with engine.begin() as connection:
        rows = [dict(zip(table.c.keys(), row, strict=True)) for row in values()]
        connection.execute(table.insert(), [rows[i] for i in rng.permutation(NUM_ROWS)])  # the order is the key's alone
        connection.execute(
            pairs.insert(), [{"name": f"n{row % 5}", "number": row // 5, "x": row} for row in range(NUM_ROWS)]
        )
        connection.execute(odd.insert(), [{"a": 1, "b": b"\0"}, {"a": 1, "b": b"\1"}, {"a": None, "b": b"\2"}])
        connection.execute(sa.text("CREATE VIEW seen AS SELECT id AS key, x * 2 AS x FROM t WHERE id >= 0"))
    engine.dispose()


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = url_of(tmp_path_factory.mktemp("sqlite") / "d.db")
    fill(url)
    return url


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    # it refuses to run as root
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder} -c fsync=off"
    make = ["initdb", "-D", folder / "data", "-A", "scram-sha-256", "-U", "tester", f"--pwfile={folder / 'password'}"]
    start = ["pg_ctl", "-D", folder / "data", "-w", "-t", "30", "-l", folder / "log", "-o", options, "start"]
    try:
        for command in (make, start):
            subprocess.run(
                [*user, programs[-1] / str(command[0]), *command[1:]],
                cwd=folder,
                check=True,
                timeout=60,
                stdout=subprocess.DEVNULL,
                env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
            )
        url = f"postgresql://tester:{PASSWORD}@127.0.0.1:{port}/postgres"
        fill(url)
        yield url
    finally:
        stop = [programs[-1] / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop"]
        subprocess.run([*user, *stop], cwd="/", timeout=60, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def as_lists(rows: Any) -> Any:
    if isinstance(rows, dict):
        return {name: as_lists(column) for name, column in rows.items()}
    return list(as_batch(rows)) if isinstance(rows, Ragged) else rows.tolist()


RANGES = [(0, NUM_ROWS), (0, 0), (0, 1), (1023, 1025), (1024, 1024), (NUM_ROWS - 1, NUM_ROWS), (700, 2300)]


def test_any_range_of_a_table(database: str) -> None:
    source, rows = open_source(f"{database}::t"), values()
    assert source.num_rows == NUM_ROWS
    even = np.dtype(np.int64) if database.startswith("sqlite") else np.dtype(np.bool_)  # SQLite has no booleans
    assert source.row_type == {
        "whole": RowType((), np.dtype(np.int64)),
        "x": RowType((), np.dtype(np.float64)),
        "Text of it": RowType(RAGGED, TEXT),
        "even": RowType((), even),
    }
    for start, stop in RANGES:
        found = as_lists(source.read(start, stop))
        for place, name in enumerate(["whole", "x", "Text of it", "even"], 1):
            assert found[name] == [row[place] for row in rows[start:stop]], (name, start, stop)


@pytest.mark.parametrize(
    ("what", "select"),
    [
        ("pairs", "SELECT x FROM pairs ORDER BY name, number"),
        ("seen", "SELECT x FROM seen ORDER BY key"),
        ("SELECT id + 1, x FROM t WHERE whole = 3 ORDER BY x DESC;", "SELECT x FROM t WHERE whole = 3 ORDER BY id"),
        (" with q as (select id, x from t) select * from q -- all", "SELECT x FROM t ORDER BY id"),
        ("""SELECT id, x FROM t WHERE "Text of it" NOT LIKE '%:x %'""", "SELECT x FROM t ORDER BY id"),
        ("SELECT 'k' || (2000000 + id), CAST(x AS double precision) AS x FROM t", "SELECT x FROM t ORDER BY id"),
    ],
)
def test_views_queries_and_keys_of_several_columns(database: str, what: str, select: str) -> None:
    engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        expected = [value for (value,) in connection.execute(sa.text(select))]
    engine.dispose()
    source = open_source(f"{database}::{what}")
    assert source.num_rows == len(expected)
    for start, stop in [*RANGES, (100, 300)]:
        if stop <= len(expected):
            assert source.read(start, stop).tolist() == expected[start:stop], (start, stop)


def test_keys_of_every_kind_come_back_as_they_went(postgresql: str) -> None:
    for key in (
        "number::bigint * 10000000000",
        "number::numeric / 3",
        "name::char(9)",
        "md5(name)::uuid",
        "timestamp with time zone '2024-03-31 00:00:00.000001Z' + number * interval '7 minutes 1 microsecond'",
        "timestamp '2024-03-31' + number * interval '1 second'",
        "date '2024-03-31' + number",
        "decode(md5(name), 'hex')",
        'name COLLATE "C"',
        "name",
    ):
        query = (
            f"SELECT {key} AS key, number FROM (SELECT n AS number, 'Ab' || n AS name FROM generate_series(0, 3000) n)"
        )
        source = open_source(f"{postgresql}::{query} AS s")
        engine = sa.create_engine(postgresql.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            text = f"SELECT number FROM ({query} AS s) q ORDER BY key".replace(":", "\\:")
            expected = [value for (value,) in connection.execute(sa.text(text))]
        engine.dispose()
        assert source.read(0, 3001).tolist() == expected, key
        assert source.read(1024, 3001).tolist() == expected[1024:], key
        assert source.read(2048, 2049).tolist() == expected[2048:2049], key
        again = open_source(f"{postgresql}::{query} AS s")
        assert (source.digest(), source.stamp()) == (again.digest(), again.stamp())


def test_a_table_of_a_schema(postgresql: str) -> None:
    engine = sa.create_engine(postgresql.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text('CREATE SCHEMA "Other"'))
        connection.execute(sa.text('CREATE TABLE "Other".t AS SELECT id AS "Key", -x AS "select" FROM t'))
        connection.execute(sa.text('ALTER TABLE "Other".t ADD PRIMARY KEY ("Key")'))
    engine.dispose()
    source = open_source(f"{postgresql}::Other.t")
    assert source.read(1500, 1503).tolist() == [-row[2] for row in values()[1500:1503]]
    assert source.stamp()


def test_columns_are_chosen_and_kept_in_order(database: str) -> None:
    rows = values()
    source = open_source(f"{database}::t", ["x"], ["id", "x"])
    assert as_lists(source.read(5, 7)) == {"x": [r[2] for r in rows[5:7]], "id": [r[0] for r in rows[5:7]]}
    assert open_source(f"{database}::t", ["id"]).read(5, 7).tolist() == [-85, -82]
    assert open_source(f"{database}::SELECT id FROM t").read(5, 7).tolist() == [-85, -82]  # there is nothing else
    empty = open_source(f"{database}::empty")
    assert (empty.num_rows, empty.row_type) == (0, RowType((), np.dtype(np.float64)))
    assert len(empty.read(0, 0)) == 0
    assert empty.digest()
    assert empty.stamp()


@pytest.mark.parametrize(
    ("what", "columns", "message"),
    [
        ("nix", [], "there is no such table; there are empty, odd, pairs, seen, t"),
        ("t", ["y"], "has no column 'y'; it has id, whole, x, Text of it, even"),
        ("odd", ["b"], "'a' must be a key, but 1 of 3 rows have null there. Give the table a primary key"),
        ("SELECT a, b FROM odd WHERE a = 1", [], "'a' must be a key, but 2 rows have 1 values there"),
        ("SELECT id, b FROM t JOIN odd ON a IS NULL", [], "column 'b' holds values of type bytes"),
        ("SELECT x, id FROM t", [], "values of the key are float"),
        ("SELECT id FROM t WHERE", [], "syntax"),
        ("SELECT id, NULL AS void FROM t", [], "column 'void' is null in all of the first 1,000 rows"),
        ("DROP TABLE t", [], "there is no such table"),
        ("SELECT 1; DROP TABLE t", [], "Error"),
    ],
)
def test_what_cannot_be_read_is_said(database: str, what: str, columns: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        _ = open_source(f"{database}::{what}", columns).num_rows  # for which it is looked through
    assert message in str(caught.value)
    assert str(caught.value).startswith("--data ")
    assert PASSWORD not in repr(caught.value)
    assert "\n" not in str(caught.value)
    assert open_source(f"{database}::t").num_rows == NUM_ROWS


def test_no_password_is_shown(postgresql: str) -> None:
    host = postgresql.rpartition("@")[2]
    closed = f"127.0.0.1:{socket_that_is_closed()}"
    right = f"postgresql://tester:{PASSWORD}@{host}"
    for url, error, message in (
        (f"postgresql://tester:wr@ng-one@{host}::t", InputError, ""),
        (f"postgresql://tester:wrong-one@{host}::t", InputError, "password authentication failed"),
        (f"{right}-no::t", InputError, 'database "postgres-no" does not exist'),
        (f"postgresql://tester:wrong-one@{closed}/postgres::t", InputError, "Connection refused"),
        (f"postgresql://tester@{closed}/postgres?password=wrong-one::t", InputError, "Connection refused"),
        ("postgresql://tester:wrong-one@host:port/postgres::t", InputError, "no URL of a database"),
        ("postgresql+none://tester:wrong-one@host/postgres::t", InputError, "postgresql.none"),
        (f"postgresql://tester:wrong-one@{host}", UsageError, "names no table"),
        ("postgresql+pg8000://tester:wrong-one@host/d::t", UsageError, "needs the driver pg8000"),
        ("mysql://tester:wrong-one@host/d::t", UsageError, "needs the driver MySQLdb"),
    ):
        began = time.monotonic()
        with pytest.raises(error) as caught:
            open_source(url)
        assert message in str(caught.value)
        assert PASSWORD not in str(caught.value)
        assert "ng-one" not in f"{caught.value}{caught.value.details}{caught.value.__cause__}", url
        assert time.monotonic() - began < 25


def socket_that_is_closed() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_a_file_is_not_made_and_not_believed(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 1000)
    for url, message in (
        (f"sqlite:///{tmp_path}/none.db::t", "none.db: No such file"),
        (f"sqlite:///{tmp_path}/text.db::t", "file is not a database"),
        ("sqlite://::t", "give the file"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(url)
    assert [path.name for path in tmp_path.iterdir()] == ["text.db"]


def test_digest_and_stamp(database: str, tmp_path: Path) -> None:
    one, two = open_source(f"{database}::t"), open_source(f"{database}::t")
    assert (one.digest(), one.stamp()) == (two.digest(), two.stamp())
    digests = {one.digest()}
    for change in ("SELECT id, -x FROM t", "SELECT id, x FROM t", "SELECT id, x FROM t WHERE id > -100"):
        digests.add(open_source(f"{database}::{change}").digest())
    assert len(digests) == 4
    engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    name = f"changing_{secrets.token_hex(4)}"
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE {name} AS SELECT id, x FROM t"))
    source = open_source(f"{database}::{name}")
    before = source.stamp()
    with engine.begin() as connection:
        connection.execute(sa.text(f"DELETE FROM {name} WHERE id = 0 OR id >= 3000"))
    assert source.stamp() != before
    with pytest.raises(InputError, match="has fewer rows than when it was opened"):
        source.read(2000, 2100)
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE {name}"))
    with pytest.raises(InputError, match=name):
        source.read(0, 1)
    with pytest.raises(InputError, match=name):
        source.stamp()
    engine.dispose()


def test_several_threads_read_at_once(database: str) -> None:
    source, rows, wrong = open_source(f"{database}::t", ["x"]), values(), []

    def read(seed: int) -> None:
        for start in np.random.default_rng(seed).integers(0, NUM_ROWS - 50, 40).tolist():
            if source.read(start, start + 50).tolist() != [row[2] for row in rows[start : start + 50]]:
                wrong.append(start)

    threads = [threading.Thread(target=read, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


def test_bad_rows_are_named_and_set_aside(tmp_path: Path) -> None:
    """SQLite keeps whatever it is given in any column."""
    bad = {
        10: ("x", None, "is null"),
        1500: ("x", "tree", "is 'tree' (str), where others are float64"),
        1501: ("s", b"\xff\xfe", "is text that is not UTF-8"),
        1502: ("n", 1.5, "is 1.5 (float), where others are int64"),
        1503: ("s", 7, "is 7 (int), where others are text"),
        2000: ("n", b"\0" * 99, "is b'"),
    }
    with sqlite3.connect(tmp_path / "d.db") as connection:
        connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, x, n, s)")
        for row in range(NUM_ROWS):
            values = {"x": row / 2, "n": row, "s": f"row {row}"}
            if row in bad:
                values[bad[row][0]] = bad[row][1]
            marks = "?, ?, ?, CAST(? AS TEXT)" if row == 1501 else "?, ?, ?, ?"
            connection.execute(f"INSERT INTO t VALUES ({marks})", [f"key {row:05}", *values.values()])
    connection.close()
    source = open_source(f"{url_of(tmp_path / 'd.db')}::t")
    for row, (name, _, message) in bad.items():
        with pytest.raises(InputError) as caught:
            source.read(row, row + 1)
        assert f"row {row} (key key {row:05}) of column {name!r} {message}" in str(caught.value)
    for row in (9, 11, 1499, 1504, 1999, 2001):
        assert as_lists(source.read(row, row + 1)) == {"x": [row / 2], "n": [row], "s": [f"row {row}"]}

    command = ["--model", "zoo:Identity", "--data", "sqlite:///d.db::SELECT id, x FROM t", "--output", "p.npy"]
    outcome = predict_here(*command, folder=tmp_path)
    assert (outcome.code, outcome.output.count("row 10 (key key 00010) of column 'x' is null")) == (65, 1)
    outcome = predict_here(*command, "--on-error", "quarantine", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    lines = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["row"] for line in lines) == [10, 1500]
    expected = np.arange(NUM_ROWS) / 2
    expected[[10, 1500]] = 0
    found = np.load(tmp_path / "p.npy")
    assert np.array_equal(found[expected > 0], expected[expected > 0])


def test_a_table_is_predicted_by_two_ranks(database: str, tmp_path: Path) -> None:
    data = f"{database}::SELECT id, x, whole FROM t"
    options = ["--model", "zoo:TwoColumns", "--data", data, "--output", "p.npy", "--batch-size", "7"]
    outcome = run(predict_command(*options, launcher=LAUNCHERS["mpirun-2"]), tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.array_equal(np.load(tmp_path / "p.npy"), [row[2] * 2 + row[1] for row in values()])
    assert PASSWORD not in outcome.output


def test_a_missing_library_is_named(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(UsageError, match=r"needs SQLAlchemy: pip install 'horovod-inference-runner\[sql\]'"):
        open_source(f"{sqlite}::t")
