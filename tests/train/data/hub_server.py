"""A stand-in for the Hub: serves one dataset from a folder to the real client, and fails where a test asks for it."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """
    Args:
        requests: what was asked for: "GET /path", in order.
        faults: for a file's name, what goes wrong in each download of it, in turn: "503", "dropped" (the connection
            ends in the middle), "short" (the end is missing, and not announced), "flipped" (a bit differs), or `None`
            for nothing, as once they are used up.
    """

    def __init__(self, repo_id: str, folder: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repo_id = repo_id
        self.folder = folder
        self.requests: list[str] = []
        self.faults: dict[str, Iterator[str | None]] = {}

    def downloads(self, name: str) -> int:
        """How often the content of a file was asked for."""
        return self.requests.count(f"GET /datasets/{self.repo_id}/resolve/{COMMIT}/{name}")

    def environment(self, home: Path) -> dict[str, str]:
        """For a process that is to take this server for the Hub, and `home` for what is kept of it."""
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        return {
            **environment,
            "HF_ENDPOINT": f"http://127.0.0.1:{self.server_port}",
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
        }

    def tree(self) -> list[dict]:
        return [self._entry(path) for path in sorted(self.folder.iterdir())]

    def _entry(self, path: Path) -> dict:
        entry = {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": COMMIT}
        if path.suffix != ".md":
            entry["lfs"] = {"oid": sha256_of(path), "size": entry["size"], "pointerSize": 130}
        return entry


@contextmanager
def serve(repo_id: str, folder: Path) -> Iterator[HubServer]:
    """A server on a free local port."""
    with HubServer(repo_id, folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_GET(self) -> None:
        path, repo_id = urlparse(self.path).path, self.server.repo_id
        self.server.requests.append(f"{self.command} {path}")
        if path.startswith(f"/api/datasets/{repo_id}/revision/") or path == f"/api/datasets/{repo_id}":
            siblings = [{"rfilename": entry["path"]} for entry in self.server.tree()]
            self._send_json({"id": repo_id, "sha": COMMIT, "siblings": siblings})
        elif path.startswith(f"/api/datasets/{repo_id}/tree/"):
            self._send_json(self.server.tree())
        elif path.startswith(f"/datasets/{repo_id}/resolve/"):
            self._send_file(self.server.folder / path.split("/", 6)[6])
        else:
            self._send_missing()

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Facts of the files that a form, or an object in JSON, names as `paths`."""
        self.server.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        is_json = self.headers.get("Content-Type", "").startswith("application/json")
        wanted = (json.loads(body) if is_json else parse_qs(body)).get("paths", [])
        self._send_json([entry for entry in self.server.tree() if entry["path"] in wanted])

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_file(self, file: Path) -> None:
        if not file.is_file():
            return self._send_missing()
        content, sha256 = file.read_bytes(), sha256_of(file)
        fault = next(self.server.faults.get(file.name, iter(())), None) if self.command == "GET" else None
        if fault == "503":
            return self._send(503, b"", {})
        if fault == "flipped":
            content = bytes([*content[:-9], content[-9] ^ 1, *content[-8:]])
        if fault == "short":
            content = content[:-9]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        status, asked = 200, self.headers.get("Range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            status, content = 206, content[start:stop]
        return self._send(status, content, headers, sent=len(content) // 2 if fault == "dropped" else None)

    def _send_missing(self) -> None:
        self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _send(self, status: int, content: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        """Answer; of the content that is announced only the first `sent` bytes follow, where that is given."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])

    def log_message(self, *_: object) -> None:
        pass
