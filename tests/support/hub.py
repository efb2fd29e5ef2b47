"""A fake model hub over real HTTP: what a download of one repository needs. It records which files were requested."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves each folder in `repositories`, under the name of its key, at one commit."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.downloaded: list[str] = []
        self.url = ""
        self._repositories = repositories

    def app(self) -> Starlette:
        name = "{owner}/{model}"
        return Starlette(
            routes=[
                Route(f"/api/models/{name}/revision/{{revision}}", self._info),
                Route(f"/api/models/{name}", self._info),
                Route(f"/api/models/{name}/tree/{{revision}}", self._tree),
                Route(f"/{name}/resolve/{{revision}}/{{path:path}}", self._file, methods=["GET", "HEAD"]),
            ]
        )

    def _folder(self, request: Request) -> Path:
        return self._repositories["{owner}/{model}".format(**request.path_params)]

    async def _info(self, request: Request) -> Response:
        files = [{"rfilename": path} for path in self._paths(request)]
        return JSONResponse({"id": "{owner}/{model}".format(**request.path_params), "sha": COMMIT, "siblings": files})

    async def _tree(self, request: Request) -> Response:
        folder = self._folder(request)
        entries = [(path, (folder / path).read_bytes()) for path in self._paths(request)]
        return JSONResponse(
            [{"type": "file", "path": path, "size": len(data), "oid": _etag(data)} for path, data in entries]
        )

    async def _file(self, request: Request) -> Response:
        path = request.path_params["path"]
        if request.method == "GET":
            self.downloaded.append(path)
        file = self._folder(request) / path
        headers = {"ETag": f'"{_etag(file.read_bytes())}"', "X-Repo-Commit": COMMIT}
        return FileResponse(file, headers=headers, media_type="application/octet-stream")

    def _paths(self, request: Request) -> list[str]:
        folder = self._folder(request)
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _etag(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@contextmanager
def serving(repositories: dict[str, Path]) -> Iterator[Hub]:
    """A running hub with these repositories, by owner/name."""
    hub = Hub(repositories)
    server = uvicorn.Server(uvicorn.Config(hub.app(), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the hub has not started"
        thread.join(0.01)
    hub.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        server.should_exit = True
        thread.join()
