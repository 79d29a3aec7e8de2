"""A stand-in for the Hub that takes models and Spaces from the real client, keeps every commit, and gives them back.

Large files come apart from the commit that names them, as on the Hub. It fails where a test asks for it.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import yaml


TOKEN = "hf_test"
OWNER = "you"  # whom the token belongs to
LARGE = (".safetensors", ".png", "tokenizer.json")  # ends of names of files that are not kept in git
FIRST_COMMIT = {".gitattributes": b"*.safetensors filter=lfs\n"}


class Repository:
    """
    Args:
        commits: the files of every commit, by its hash.
        heads: the newest commit of each branch.
    """

    def __init__(self, private: bool):
        self.private = private
        self.commits: dict[str, dict[str, bytes]] = {}
        self.heads: dict[str, str] = {}
        self.commit("main", dict(FIRST_COMMIT))

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        name = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[name] = files
        self.heads[branch] = name
        return name

    def find(self, revision: str) -> str | None:
        """The commit that a branch's name or a hash means."""
        return self.heads.get(revision, revision if revision in self.commits else None)

    def files(self, revision: str) -> dict[str, bytes]:
        return self.commits[self.find(revision)]


class HubServer(ThreadingHTTPServer):
    """
    Args:
        repositories: models by id, Spaces by "spaces/" and id.
        objects: large files, by SHA-256.
        requests: what was asked for: "GET /path", in order.
        faults: requests that will fail, as regular expressions for "POST /path", with the status of the answer. The
            body of such a request is read only in part.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """For a process that is to take this server for the Hub, and `home` for what is kept of it."""
        environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
        environment |= {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return {**environment, "HF_TOKEN": token} if token else environment


@contextmanager
def serve() -> Iterator[HubServer]:
    """A server on a free local port."""
    with HubServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def handle_request(self) -> None:
        path = unquote(urlparse(self.path).path)
        request = f"{self.command} {path}"
        self.server.requests.append(request)
        for pattern, status in self.server.faults.items():
            if re.search(pattern, request):
                self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
                return self._send_json({"error": "asked for by a test"}, status)
        # Both kinds have the same routes, under other names.
        request = re.sub(r"^(\w+) /api/spaces/", r"\1 /api/models/spaces/", request)
        for pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, request)
            if match:
                return answer(self, **match.groupdict())
        return self._send_json({"error": f"no such route: {request}"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def create_repository(self) -> None:
        asked = json.loads(self._body())
        is_space = asked.get("type") == "space"
        repo_id = f"{'spaces/' if is_space else ''}{asked['organization']}/{asked['name']}"
        if is_space and asked.get("sdk") != "static":
            return self._send_json({"error": "no sdk"}, 400)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send_json({"error": "Invalid username or password."}, 401)
        if asked["organization"] != OWNER:
            return self._send_json({"error": "You don't have the rights to create a model under this namespace"}, 403)
        url = f"{self.server.url}/{repo_id}"
        if repo_id in self.server.repositories:
            return self._send_json({"error": "You already created this model repo", "url": url}, 409)
        self.server.repositories[repo_id] = Repository(asked.get("visibility") == "private")
        return self._send_json({"url": url})

    def validate_yaml(self) -> None:
        content = json.loads(self._body())["content"]
        match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        metadata = yaml.safe_load(match[1]) if match else None
        errors = [] if isinstance(metadata, dict) and metadata.get("license") else [{"message": "no metadata"}]
        self._send_json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def describe(self, repo: str, revision: str | None = None) -> None:
        repository = self._repository(repo, revision or "main")
        if repository:
            siblings = [{"rfilename": name} for name in sorted(repository.files(revision or "main"))]
            commit = repository.find(revision or "main")
            self._send_json({"id": repo, "sha": commit, "private": repository.private, "siblings": siblings})

    def list_tree(self, repo: str, revision: str, folder: str | None = None) -> None:
        repository = self._repository(repo, revision)
        if repository and folder is not None:  # there are no folders here
            self._send_json({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        elif repository:
            files = repository.files(revision).items()
            self._send_json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": _oid(name, content)}
                    for name, content in files
                ]
            )

    def create_branch(self, repo: str, branch: str) -> None:
        start = json.loads(self._body() or b"{}").get("startingPoint", "main")
        repository = self._repository(repo, start)
        if repository and branch in repository.heads:
            self._send_json({"error": "Reference already exists"}, 409)
        elif repository:
            repository.heads[branch] = repository.find(start)
            self._send_json({})

    def preupload(self, repo: str, revision: str) -> None:
        asked = json.loads(self._body())["files"]
        repository = self._repository(repo, revision)
        if repository:
            there = repository.files(revision)
            answers = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(file["path"], there[file["path"]]) if file["path"] in there else None,
                }
                for file in asked
            ]
            self._send_json({"files": answers})

    def offer_places(self, repo: str) -> None:
        objects = []
        for asked in json.loads(self._body())["objects"]:
            place = {"upload": {"href": f"{self.server.url}/objects/{asked['oid']}", "header": {}}}
            objects.append(asked if asked["oid"] in self.server.objects else {**asked, "actions": place})
        self._send_json({"transfer": "basic", "objects": objects})

    def take_object(self, oid: str) -> None:
        content = self._body()
        if hashlib.sha256(content).hexdigest() != oid:
            return self._send_json({"error": "not what was announced"}, 400)
        self.server.objects[oid] = content
        return self._send_json({})

    def commit(self, repo: str, branch: str) -> None:
        lines = [json.loads(line) for line in self._body().splitlines()]
        repository = self._repository(repo, branch)
        if not repository:
            return
        files = dict(repository.files(branch))
        head = repository.heads[branch]
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", head) != head:
                return self._send_json({"error": "A commit has happened since"}, 412)
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(branch, files)
        self._send_json({"commitUrl": f"{self.server.url}/{repo}/commit/{commit}", "commitOid": commit})

    def send_file(self, repo: str, revision: str, name: str) -> None:
        repository = self._repository(repo, revision)
        if not repository:
            return
        commit, content = repository.find(revision), repository.files(revision).get(name)
        headers = {"X-Repo-Commit": str(commit)}
        if content is None:
            self._send(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
        else:
            self._send(200, content, {**headers, "ETag": f'"{_oid(name, content)}"'})

    def _repository(self, repo: str, revision: str) -> Repository | None:
        """A repository with that revision; where there is none, the answer says so."""
        repository = self.server.repositories.get(repo)
        if repository is None or repository.find(revision) is None:
            self._send_json({}, 404, {"X-Error-Code": "RevisionNotFound" if repository else "RepoNotFound"})
            return None
        return repository

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    def _send_json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _oid(name: str, content: bytes) -> str:
    """As the Hub names a file's content: SHA-256 of large files, git's SHA-1 of others."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_REPO = r"(?P<repo>(spaces/)?[^/ ]+/[^/ ]+)"
_ROUTES = [
    (r"POST /api/repos/create", _Handler.create_repository),
    (r"POST /api/validate-yaml", _Handler.validate_yaml),
    (rf"GET /api/models/{_REPO}", _Handler.describe),
    (rf"GET /api/models/{_REPO}/revision/(?P<revision>[^/]+)", _Handler.describe),
    (rf"GET /api/models/{_REPO}/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?", _Handler.list_tree),
    (rf"POST /api/models/{_REPO}/branch/(?P<branch>[^/]+)", _Handler.create_branch),
    (rf"POST /api/models/{_REPO}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", _Handler.offer_places),
    (r"PUT /objects/(?P<oid>[0-9a-f]{64})", _Handler.take_object),
    (rf"POST /api/models/{_REPO}/commit/(?P<branch>[^/]+)", _Handler.commit),
    (rf"(GET|HEAD) /{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.send_file),
]
