"""A folder behind the REST interface of HDFS, as far as reading goes; a server of its own, and no Hadoop.

https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-hdfs/WebHDFS.html: a name node, which says what there
is, sends whoever opens a file on to a data node, which gives the bytes. Here one server is both.
"""

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit


class WebHdfs(BaseHTTPRequestHandler):
    """Serves the folder `root`; each request is noted in `asked`."""

    root: ClassVar[Path]
    asked: ClassVar[list[tuple[str, int]]] = []

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        options = {name.lower(): values[0] for name, values in parse_qs(url.query).items()}
        name = url.path.removeprefix("/data").removeprefix("/webhdfs/v1")
        file = self.root / name.strip("/")
        operation = options["op"].upper()
        if not file.exists():
            message = f"File does not exist: {name}"
            self._answer(404, {"RemoteException": {"exception": "FileNotFoundException", "message": message}})
        elif operation == "GETFILESTATUS":
            self._answer(200, {"FileStatus": self._status(file, "")})
        elif operation == "LISTSTATUS":
            found = [self._status(entry, entry.name) for entry in sorted(file.iterdir())]
            self._answer(200, {"FileStatuses": {"FileStatus": found}})
        elif not url.path.startswith("/data"):  # on to the data node
            self.send_response(307)
            self.send_header("Location", f"http://{self.headers['Host']}/data{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            start = int(options.get("offset", 0))
            content = file.read_bytes()[start:][: int(options["length"]) if "length" in options else None]
            self.asked.append((name, len(content)))
            self._send(200, "application/octet-stream", content)

    def log_message(self, *args: Any) -> None:
        pass

    def _status(self, file: Path, suffix: str) -> dict[str, Any]:
        status = file.stat()
        kind = "DIRECTORY" if file.is_dir() else "FILE"
        modified = status.st_mtime_ns // 1_000_000
        return {"length": status.st_size, "modificationTime": modified, "pathSuffix": suffix, "type": kind}

    def _answer(self, code: int, value: Any) -> None:
        self._send(code, "application/json", json.dumps(value).encode())

    def _send(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
