"""Data sets behind URLs: S3, web servers, WebHDFS and memory, against the same files on this machine."""

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pandas as pd
import pytest
import requests
from launch import HELPERS, LAUNCHERS, environment, predict_command, predict_here, run
from moto.server import ThreadedMotoServer
from webhdfs import WebHdfs

from runner.core.errors import InputError
from runner.data.rows import Ragged
from runner.sources import open_source
from runner.sources.files import Stream, open_file, read_range

NUM_ROWS = 1009
NAMES = ["d.npy", "d.csv", "d.jsonl", "d.txt", "d.parquet"]
RANGES = [(0, NUM_ROWS), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (500, 700)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.random(NUM_ROWS), "whole": np.arange(NUM_ROWS), "text": ["größe\n|"] * NUM_ROWS})
    np.save(folder / "d.npy", rng.random((NUM_ROWS, 8), "float32"))
    table.to_csv(folder / "d.csv", index=False)
    table.to_json(folder / "d.jsonl", orient="records", lines=True)
    table.to_parquet(folder / "d.parquet", row_group_size=100)
    (folder / "d.txt").write_text("".join(f"line {row}\n" for row in range(NUM_ROWS)))
    (folder / "none.txt").write_bytes(b"")
    np.save(folder / "none.npy", np.zeros((0, 8), "float32"))
    (folder / "deeper.npy").mkdir()
    (folder / "deeper.npy/x").write_text("x")
    return folder


class Ranged(SimpleHTTPRequestHandler):
    """A web server that gives parts of files, which Python's own does not; notes how many bytes were asked for."""

    asked: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        file = Path(self.translate_path(self.path))
        if not wanted or not file.is_file():
            super().do_GET()
            return
        content = file.read_bytes()[int(wanted[1]) : int(wanted[2]) + 1]
        self.asked.append(len(content))
        self.send_response(206 if content else 416)
        self.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{file.stat().st_size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


class Signed(Ranged):
    """A web server that answers only requests with the right query, and no HEAD, as storages do for signed URLs."""

    query: ClassVar[str] = ""
    left: ClassVar[int] = 0  # requests until the signature expires

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        Signed.left -= 1
        if query != Signed.query or Signed.left < 0:
            self.send_error(403)
            return
        self.path = path
        super().do_GET()

    def do_HEAD(self) -> None:
        self.send_error(403)


class Whole(SimpleHTTPRequestHandler):
    """Python's own, which sends whole files; notes how much of them anyone took."""

    taken: ClassVar[list[int]] = []

    def copyfile(self, source: Any, outputfile: Any) -> None:
        sent = 0
        try:
            while block := source.read(1 << 16):
                outputfile.write(block)
                sent += len(block)
        except OSError:
            pass
        self.taken.append(sent)

    def log_message(self, *args: Any) -> None:
        pass


def serve(handler: type, folder: Path) -> Iterator[str]:
    def handle(*args: Any) -> Any:
        return handler(*args) if handler is WebHdfs else handler(*args, directory=folder)

    with ThreadingHTTPServer(("127.0.0.1", 0), handle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[str]:
    yield from serve(Ranged, folder)


@pytest.fixture(scope="module")
def hdfs(folder: Path) -> Iterator[str]:
    WebHdfs.root = folder
    for url in serve(WebHdfs, folder):
        yield url.replace("http:", "webhdfs:")


@pytest.fixture(scope="module")
def s3(folder: Path) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "2")
        storage = fsspec.filesystem("s3")
        storage.mkdir("bucket")
        for file in folder.iterdir():
            storage.put(str(file), f"bucket/{file.name}", recursive=file.is_dir())
        yield "s3://bucket"
        storage.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def memory(folder: Path) -> str:
    storage = fsspec.filesystem("memory")
    for file in folder.iterdir():
        storage.put(str(file), f"/set/{file.name}", recursive=file.is_dir())
    return "memory://set"


@pytest.fixture(params=["s3", "web", "hdfs", "memory"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name in expected:
            assert_same(found[name], expected[name])
    elif isinstance(expected, Ragged):
        assert np.array_equal(found.values, expected.values)
        assert np.array_equal(found.offsets, expected.offsets)
    else:
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_the_file(name: str, place: str, folder: Path) -> None:
    source, local = open_source(f"{place}/{name}"), open_source(str(folder / name))
    assert (source.num_rows, source.row_type) == (local.num_rows, local.row_type)
    assert source.row_bytes == local.row_bytes
    for start, stop in RANGES:
        assert_same(source.read(start, stop), local.read(start, stop))
    assert source.digest() == local.digest()
    assert source.stamp() == open_source(f"{place}/{name}").stamp()


def test_ends_and_empty_ranges(place: str, folder: Path) -> None:
    file, content = open_file(f"{place}/d.txt"), (folder / "d.txt").read_bytes()
    assert file.size == len(content)
    for start, stop in ((0, 0), (5, 5), (len(content), len(content)), (0, 3), (len(content) - 3, len(content))):
        assert read_range(file, start, stop) == content[start:stop]
    with pytest.raises(InputError, match=r"d\.txt"):
        read_range(file, len(content) - 1, len(content) + 1)
    with pytest.raises(InputError, match=r"d\.txt"):
        read_range(file, len(content), len(content) + 1)
    stream = Stream(file)
    assert stream.seek(-4, 2) == len(content) - 4
    assert stream.read(100) == content[-4:]
    assert stream.read(1) == b""
    assert (stream.seek(2), stream.seek(1, 1), stream.read(2)) == (2, 3, content[3:5])
    assert open_source(f"{place}/none.txt").num_rows == 0
    none = open_source(f"{place}/none.npy")
    assert none.read(0, 0).shape == (0, 8)


def test_little_more_is_asked_for_than_is_needed(web: str, hdfs: str, folder: Path) -> None:
    for url, asked in ((web, Ranged.asked), (hdfs, WebHdfs.asked)):
        source = open_source(f"{url}/d.npy")
        asked.clear()
        source.read(0, 2)
        source.read(7, 7)
        assert len(asked) == 1
        (bytes_sent,) = [entry if isinstance(entry, int) else entry[1] for entry in asked]
        assert bytes_sent <= 64 + (64 << 10)
    assert Ranged.asked == [64]


def test_what_is_not_there(place: str) -> None:
    for name, message in (("no.npy", "no.npy"), ("no.parquet", "no.parquet"), ("no.csv", "no.csv")):
        began = time.monotonic()
        with pytest.raises(InputError, match=message) as caught:
            open_source(f"{place}/{name}")
        assert str(caught.value).startswith(f"--data {place}/{name}")
        assert str(caught.value).count("\n") == 0
        assert time.monotonic() - began < 25
    if not place.startswith("http"):
        with pytest.raises(InputError, match=r"deeper\.npy is a folder"):
            open_source(f"{place}/deeper.npy")


def test_a_server_that_sends_whole_files_is_found_out(folder: Path) -> None:
    with (folder / "large.npy").open("wb") as file:
        np.lib.format.write_array(file, np.zeros((8 << 20, 8), "uint8"))
    for url in serve(Whole, folder):
        for name in ("large.npy", "d.csv", "d.parquet"):
            with pytest.raises(InputError, match=f"{name}: the server sends the whole file where a part is asked for"):
                open_source(f"{url}/{name}")
    give_up = time.monotonic() + 60
    while len(Whole.taken) < 3 and time.monotonic() < give_up:  # the server notices when it sends more
        time.sleep(0.05)
    assert max(Whole.taken) < 32 << 20  # it was not waited for
    (folder / "large.npy").unlink()


def test_nobody_answers(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{bound.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{closed}")
    fsspec.filesystem("s3").clear_instance_cache()
    for url, message in (
        (f"{s3}/d.npy", "Could not connect to the endpoint URL"),
        (f"http://{closed}/d.npy", "Cannot connect to host"),
        (f"webhdfs://{closed}/d.npy", "Connection refused"),
        ("nothing://set/d.npy", "Protocol not known: nothing"),
    ):
        began = time.monotonic()
        with pytest.raises(InputError, match=message) as caught:
            open_source(url)
        assert str(caught.value).startswith(f"--data {url}: ")
        assert time.monotonic() - began < 60
    fsspec.filesystem("s3").clear_instance_cache()


def test_wrong_credentials(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = fsspec.filesystem("s3").s3.meta.endpoint_url
    reset = f"{endpoint}/moto-api/reset-auth"
    requests.post(reset, data=b"0", timeout=10)  # from now on keys are looked at
    try:
        with pytest.raises(InputError, match=r"--data s3://bucket/d\.npy: PermissionError: "):
            open_source(f"{s3}/d.npy")
    finally:
        requests.post(reset, data=b"inf", timeout=10)
    fsspec.filesystem("s3").clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(InputError, match="Unable to locate credentials"):
        open_source(f"{s3}/d.npy")
    fsspec.filesystem("s3").clear_instance_cache()


def test_missing_libraries_are_named(tmp_path: Path) -> None:
    program = """
import sys, runner.sources
for url, missing in (("s3://bucket/d.npy", "s3fs"), ("https://host/d.npy", "aiohttp"), ("s3://bucket/d.npy", "fsspec")):
    sys.modules[missing] = None
    try:
        runner.sources.open_source(url)
    except runner.core.errors.UsageError as error:
        print(error)
"""
    outcome = run([sys.executable, "-c", program], tmp_path)
    first, second, third = outcome.output.splitlines()
    assert "Install s3fs to access S3 (pip install 'horovod-inference-runner[url]' brings s3fs and aiohttp)" in first
    assert "aiohttp" in second
    assert third.endswith("needs fsspec: pip install 'horovod-inference-runner[url]'")


@pytest.mark.parametrize("name", ["d.npy", "d.csv", "d.parquet"])
def test_a_file_that_is_written_to_meanwhile(name: str, s3: str, folder: Path) -> None:
    storage = fsspec.filesystem("s3")
    storage.put(str(folder / name), f"bucket/changing-{name}")
    source = open_source(f"{s3}/changing-{name}")
    before = source.stamp()
    content = (folder / name).read_bytes()
    storage.pipe(f"bucket/changing-{name}", content[: len(content) // 2] + b"!" + content[len(content) // 2 + 1 :])
    assert source.stamp() != before
    storage.pipe(f"bucket/changing-{name}", content[: len(content) // 2])
    with pytest.raises(InputError, match=f"changing-{name}"):
        source.read(NUM_ROWS - 10, NUM_ROWS)
    storage.rm(f"bucket/changing-{name}")
    with pytest.raises(InputError, match=f"changing-{name}"):
        source.stamp()


def test_a_stamp_of_webhdfs_and_of_a_web_server(web: str, hdfs: str, folder: Path) -> None:
    (folder / "stamped.txt").write_text("one\n")
    sources = [open_source(f"{url}/stamped.txt") for url in (web, hdfs)]
    before = [source.stamp() for source in sources]
    time.sleep(1.1)  # web servers name the second
    (folder / "stamped.txt").write_text("two\n")
    assert all(source.stamp() != old for source, old in zip(sources, before, strict=True))


@pytest.mark.cold
@pytest.mark.parametrize(("name", "launcher"), [("p.npy", "mpirun-3"), ("p.parquet", "alone")])
def test_ranks_read_from_s3_and_write_there(name: str, launcher: str, s3: str, folder: Path, tmp_path: Path) -> None:
    output = f"{s3}/{name}"
    words = ["--model", "zoo:TwoColumns", "--data", f"{s3}/d.csv", "--columns", "x,whole", "--output", output]
    words += ["--batch-size", "17"]
    command = predict_command(*words, launcher=LAUNCHERS[launcher])
    # all is computed, and the storage is not there to take it
    nowhere = {**environment(), "PYTHONPATH": f"{tmp_path}:{HELPERS}"}
    (tmp_path / "sitecustomize.py").write_text(
        "import s3fs\n"
        "async def fails(*args, **options): raise OSError('no route to the storage')\n"
        "s3fs.S3FileSystem._put_file = fails\n"
    )
    outcome = run(command, tmp_path, env=nowhere)
    assert outcome.code == 73, outcome.output
    assert outcome.output.count(f"--output {output}: copying {name} there failed: OSError: no route") == 1
    (tmp_path / "sitecustomize.py").unlink()
    outcome = run(command, tmp_path)
    assert outcome.code == 0, outcome.output
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [f"{name}.run"]
    table = pd.read_csv(folder / "d.csv")
    report = json.loads((tmp_path / f"{name}.run/report.json").read_text())
    assert report["resumed_rows"] == len(table)
    found = open_source(output).read(0, len(table))
    assert np.array_equal(found, table["x"] * 2 + table["whole"])
    outcome = predict_here(*words, folder=tmp_path)
    assert (outcome.code, outcome.output.count(f"--output {output} exists already")) == (73, 1), outcome.output
    assert predict_here(*words, "--overwrite", folder=tmp_path).code == 0


SIGNATURES = ["X-Amz-Credential=SECRET%2F2026&X-Amz-Signature=SE%2FCR%2BET%3D&v=1", "download=1&code=SECRET"]


def test_signed_urls(folder: Path, tmp_path: Path) -> None:
    for web in serve(Signed, folder):
        Signed.left = 10**9
        for Signed.query in SIGNATURES:
            for name in NAMES:
                assert_same(
                    open_source(f"{web}/{name}?{Signed.query}").read(3, 9), open_source(f"{folder}/{name}").read(3, 9)
                )
        ends = [f"{web}/d.parquet?{Signed.query}::x", f"{web}/d.csv?{Signed.query}"]
        assert_same(open_source(ends[0]).read(0, 9), open_source(f"{folder}/d.parquet::x").read(0, 9))
        both = open_source([ends[1], ends[1]])
        assert both.num_rows == 2 * NUM_ROWS
        refused = {
            f"--data {web}/d.dat?SECRET": (64, f"--data '{web}/d.dat?***' must end in .npy"),
            f"--data {web}/no.npy?{Signed.query}": (65, f"--data {web}/no.npy?***: "),
            f"--data {web}/d.npy?code=SECRET": (65, f"--data {web}/d.npy?***: "),
            f"--output {web}/p.npy?code=SECRET": (64, f"--output {web}/p.npy: nothing is written to a URL with"),
            "--output s3://bucket/p.npy?code=SECRET": (64, "nothing is written to a URL with a query"),
        }
        for words, (code, message) in refused.items():
            options = ["--model", "zoo:mlp", "--data", f"{folder}/d.npy", "--output", "p.npy", *words.split()]
            outcome = predict_here(*options, folder=tmp_path)
            assert (outcome.code, outcome.output.count("runner: error")) == (code, 1), outcome.output
            assert message in outcome.output
            assert "SECRET" not in outcome.output
        assert not list(tmp_path.iterdir())


def test_a_job_resumes_with_another_signature(folder: Path, tmp_path: Path) -> None:
    command = ["--model", "zoo:mlp", "--batch-size", "16", "--chunk-size", "16", "--output", "p.npy", "-v"]
    for web in serve(Signed, folder):
        outputs = []
        for Signed.query, Signed.left in zip(SIGNATURES, (30, 10**9), strict=True):
            outputs.append(predict_here(*command, "--data", f"{web}/d.npy?{Signed.query}", folder=tmp_path))
        expired, resumed = outputs
        assert expired.code == 65, expired.output
        assert f"--data {web}/d.npy?***: reading at byte" in expired.output
        assert "403" in expired.output
        assert resumed.code == 0, resumed.output
    report = json.loads((tmp_path / "p.npy.run/report.json").read_text())
    assert 0 < report["resumed_rows"] < NUM_ROWS
    assert predict_here(*command[:-3], "--output", "q.npy", "--data", f"{folder}/d.npy", folder=tmp_path).code == 0
    assert np.load(tmp_path / "p.npy").tobytes() == np.load(tmp_path / "q.npy").tobytes()
    texts = [expired.output, resumed.output, *(file.read_text() for file in (tmp_path / "p.npy.run").iterdir())]
    assert [text for text in texts if "SECRET" in text or "X-Amz" in text] == []


def test_a_missing_key_is_said_once_by_two_ranks(s3: str, tmp_path: Path) -> None:
    command = ["--model", "zoo:mlp", "--data", f"{s3}/no.npy", "--output", "p.npy"]
    outcome = run(predict_command(*command, launcher=LAUNCHERS["mpirun-2"]), tmp_path)
    assert (outcome.code, outcome.output.count("no.npy: FileNotFoundError")) == (65, 1), outcome.output
    assert outcome.output.count("runner: error") == 1
    assert json.dumps(outcome.output).count("Traceback") == 0
