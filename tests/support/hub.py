"""A fake model hub over real HTTP: what a download needs, and what goes wrong with it.

Small files come from the hub itself. Weights are redirected to another origin, as to the real hub's storage.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Refused(Exception):
    """A response of the hub without content: its status, and its headers X-Error-Code and X-Error-Message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.response = JSONResponse(
            {"error": message}, status, headers={"X-Error-Code": code, "X-Error-Message": message}
        )


class Hub:
    """Serves each folder in `repositories`, under the name of its key, at one commit, which is main.

    downloaded: the files that were requested, at each attempt. ranges: (file, header Range) of each answer with
    weights. damaged: a small file that is sent with other bytes. gated: repositories whose licence only the owner of
    `token` has accepted. down: whether all answers are 503. limit: how many bytes of a file with weights are sent; then
    the connection breaks off and the hub is down, or waits while `stall` is set.
    """

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.downloaded: list[str] = []
        self.ranges: list[tuple[str, str | None]] = []
        self.url = ""
        self.gated: set[str] = set()
        self.token = "hf_accepted"
        self.damaged = ""
        self.down = False
        self.limit: int | None = None
        self.stall = False
        self._commits: dict[tuple[str, str], Path] = {}
        self._refs: dict[tuple[str, str], str] = {}
        self._weights: dict[str, Path] = {}
        for name, folder in repositories.items():
            self.push(name, folder, COMMIT, "main")

    def push(self, name: str, folder: Path, commit: str, *refs: str) -> None:
        """A new commit of a repository. Branches and tags `refs` point to it from now on."""
        self._commits[name, commit] = folder
        self._refs |= {(name, ref): commit for ref in refs}

    def app(self) -> Starlette:
        name = "{owner}/{model}"
        return Starlette(
            routes=[
                Route(f"/api/models/{name}/revision/{{revision:path}}", self._info),
                Route(f"/api/models/{name}", self._info),
                Route(f"/api/models/{name}/tree/{{revision}}", self._tree),
                Route(f"/{name}/resolve/{{revision}}/{{path:path}}", self._file, methods=["GET", "HEAD"]),
                Route("/storage/{sha256}", self._storage),
            ],
            middleware=[Middleware(_Down, self)],
            exception_handlers={Refused: lambda _, error: error.response},
        )

    def _found(self, request: Request) -> tuple[str, Path]:
        """The commit and the folder of a request. As on the real hub, what one may not see does not exist."""
        name = "{owner}/{model}".format(**request.path_params)
        revision = request.path_params.get("revision", "main")
        if not any(known == name for known, _ in self._commits):
            raise Refused(401, "", "Invalid username or password.")
        commit = self._refs.get((name, revision), revision)
        if (name, commit) not in self._commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, self._commits[name, commit]

    async def _info(self, request: Request) -> Response:
        commit, folder = self._found(request)
        files = [{"rfilename": path} for path in _paths(folder)]
        return JSONResponse({"id": "{owner}/{model}".format(**request.path_params), "sha": commit, "siblings": files})

    async def _tree(self, request: Request) -> Response:
        _, folder = self._found(request)
        return JSONResponse([_entry(folder, path) for path in _paths(folder)])

    async def _file(self, request: Request) -> Response:
        commit, folder = self._found(request)
        path, name = request.path_params["path"], "{owner}/{model}".format(**request.path_params)
        given = request.headers.get("Authorization", "")
        if name in self.gated and given != f"Bearer {self.token}":
            raise Refused(403 if given else 401, "GatedRepo", f"Access to model {name} is restricted.")
        if not (folder / path).is_file():
            raise Refused(404, "EntryNotFound", f"{path} does not exist")
        if request.method == "GET":
            self.downloaded.append(path)
        headers = {"X-Repo-Commit": commit}
        if not path.endswith(".safetensors"):
            data = (folder / path).read_bytes()
            headers |= {"ETag": f'"{_git_hash(data)}"'}
            data = data[::-1] if path == self.damaged else data
            return Response(data, headers=headers, media_type="application/octet-stream")
        sha256 = _sha256(folder / path)
        self._weights[sha256] = folder / path
        size = (folder / path).stat().st_size
        headers |= {"X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": str(size)}
        headers |= {"Location": f"{self.url.replace('127.0.0.1', 'localhost')}/storage/{sha256}"}
        return Response(status_code=302, headers=headers)

    async def _storage(self, request: Request) -> Response:
        assert "Authorization" not in request.headers, "the token must not leave the hub"
        file, wanted = self._weights[request.path_params["sha256"]], request.headers.get("Range")
        self.ranges.append((f"{file.parent.name}/{file.name}", wanted))
        first, size = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0, file.stat().st_size
        headers = {"Content-Length": str(size - first)}
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
        return StreamingResponse(self._bytes(file, first), 206 if wanted else 200, headers)

    async def _bytes(self, file: Path, first: int) -> AsyncIterator[bytes]:
        with file.open("rb") as opened:
            opened.seek(first)
            yield opened.read(self.limit)
            rest = opened.read()
            while self.stall and rest:
                await asyncio.sleep(0.01)
            if self.limit is None or not rest:
                yield rest
            else:
                # With fewer bytes than announced, the server breaks off the connection.
                self.down = True


class _Down:
    """Answers 503 while the hub is down."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self._app, self._hub = app, hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = Response("Service Unavailable", 503) if self._hub.down and scope["type"] == "http" else self._app
        await app(scope, receive, send)


def _paths(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _entry(folder: Path, path: str) -> dict[str, object]:
    """A file in the answer about a tree. Weights are said to be available through Xet too."""
    file = folder / path
    size = file.stat().st_size
    if not path.endswith(".safetensors"):
        return {"type": "file", "path": path, "size": size, "oid": _git_hash(file.read_bytes())}
    sha256 = _sha256(file)
    stored = {"oid": sha256, "size": size, "pointerSize": 134}
    return {"type": "file", "path": path, "size": size, "oid": sha256[:40], "lfs": stored, "xetHash": sha256}


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def serving(repositories: dict[str, Path]) -> Iterator[Hub]:
    """A running hub with these repositories, by owner/name."""
    hub = Hub(repositories)
    config = uvicorn.Config(hub.app(), port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the hub has not started"
        thread.join(0.01)
    hub.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        hub.stall = False
        server.should_exit = True
        thread.join()
