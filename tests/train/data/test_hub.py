"""Rows from a dataset on the Hub, through the real client, against a stand-in that serves one dataset from a folder."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def make_server(repo_id: str, folder: Path) -> ThreadingHTTPServer:
    """A server on a free local port; `server.requests` lists the paths that were asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlparse(self.path).path
            server.requests.append(path)
            if path.startswith(f"/api/datasets/{repo_id}/revision/") or path == f"/api/datasets/{repo_id}":
                self._send_json({"id": repo_id, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names()]})
            elif path.startswith(f"/api/datasets/{repo_id}/tree/"):
                self._send_json(tree())
            elif path.startswith(f"/datasets/{repo_id}/resolve/"):
                self._send_file(folder / path.split("/", 6)[6])
            else:
                self._send_missing()

        do_HEAD = do_GET

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            wanted = json.loads(self.rfile.read(length) or b"{}").get("paths", [])
            server.requests.append(f"POST {self.path}")
            self._send_json([entry for entry in tree() if entry["path"] in wanted])

        def _send_json(self, value: object) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send_file(self, file: Path) -> None:
            if not file.is_file():
                return self._send_missing()
            content, headers = file.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{file.name}"'}
            headers["Accept-Ranges"] = "bytes"
            asked = self.headers.get("Range")
            if not asked:
                return self._send(200, content, headers)
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            return self._send(206, content[start:stop], headers)

        def _send_missing(self) -> None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    def names() -> list[str]:
        return sorted(path.name for path in folder.iterdir())

    def tree() -> list[dict]:
        return [
            {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": COMMIT} for name in names()
        ]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    return server


@pytest.fixture
def hub(tmp_path, row):
    """A Hub with the dataset "someone/synth": two shards of 150 rows."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    for shard in range(2):
        rows = [row(number) for number in range(150 * shard, 150 * (shard + 1))]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"part-{shard}.parquet")
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    server = make_server("someone/synth", folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


PREPARE = """
import json, sys
from transformers import AutoTokenizer
from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.arguments import DataArguments
from train.data.prepare import prepare_data

arguments = DataArguments(dataset="someone/synth", max_samples=200, block_size=16, validation_fraction=0.1)
arguments.data_cache_dir = sys.argv[1]
data = prepare_data(arguments, AutoTokenizer.from_pretrained(TOKENIZER_FOLDER))
print(json.dumps({**data.source.describe(), **data.ledger.to_dict()}))
"""


def test_rows_stream_from_the_hub_at_a_recorded_commit(hub, tmp_path):
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path / "home"),
    }
    environment.pop("HF_HUB_OFFLINE")
    command = [sys.executable, "-c", PREPARE, str(tmp_path / "cache")]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout.splitlines()[-1])
    assert result["dataset_revision"] == COMMIT
    assert result["rows_read"] == 200
    assert any(path.endswith(f"/resolve/{COMMIT}/part-1.parquet") for path in hub.requests)
