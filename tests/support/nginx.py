"""A real nginx with the production configuration, in front of an API."""

import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx

from tests.support.processes import REPOSITORY, free_port, start, wait_until

TEMPLATE = REPOSITORY / "frontend" / "nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
CONNECTIONS = 4096


def render(folder: Path, gallery: Path, api: str, *, port: int, **settings: str) -> Path:
    """Write the configuration that envsubst would write, into a folder that nginx also writes its files to."""
    values = {
        "PORT": f"127.0.0.1:{port}",
        "GALLERY": str(gallery),
        "API": api,
        "NGINX_LOCAL_RESOLVERS": "127.0.0.1",
        "TRUSTED_PROXY": "0.0.0.0/32",
        "SIGN_IN_PROXY": "0.0.0.0/32",
        "TRUSTED_HOPS": "1",
        "ACCESS_LOG": "private",
        "ERROR_LOG_LEVEL": "crit",
        **settings,
    }
    text = re.sub(r"\$\{([A-Z_]+)\}", lambda found: values[found[1]], TEMPLATE.read_text())
    # A container has its own /tmp; here several instances share the machine's.
    text = text.replace("/tmp/nginx", f"{folder}/nginx").replace("worker_processes auto", "worker_processes 1")
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def _allow_open_files() -> None:
    """Raise the soft limit of open files, often 1024, to the configured connections; otherwise nginx warns."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < CONNECTIONS and (hard == resource.RLIM_INFINITY or hard >= CONNECTIONS):
        resource.setrlimit(resource.RLIMIT_NOFILE, (CONNECTIONS, hard))


def read_by_nginx(config: Path) -> subprocess.CompletedProcess[str]:
    """Run `nginx -t` on a configuration."""
    assert NGINX, "no nginx here: make system-packages installs it"
    _allow_open_files()
    return subprocess.run([NGINX, "-t", "-e", "stderr", "-c", config], capture_output=True, text=True, check=False)


@contextmanager
def nginx(folder: Path, gallery: Path, api: str, **settings: str) -> Iterator[str]:
    """The URL of a running nginx. It logs to nginx.log in the folder."""
    port = free_port()
    with running(render(folder, gallery, api, port=port, **settings), port) as url:
        yield url


@contextmanager
def running(config: Path, port: int) -> Iterator[str]:
    """The URL of an nginx with a configuration that listens on this port. It logs to nginx.log beside that file."""
    assert NGINX, "no nginx here: make system-packages installs it"
    _allow_open_files()
    # In the foreground, as in a container. Worker processes need the user that may read the folders of the test.
    directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    command = [NGINX, "-e", "stderr", "-c", str(config), "-g", directives]
    log_file = config.with_name("nginx.log")
    with log_file.open("ab") as log:
        # Its workers would outlive a master that gets SIGKILL.
        process = start(command, death_signal=signal.SIGTERM, stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or _answers(port))
            assert process.poll() is None, log_file.read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/robots.txt", trust_env=False).status_code > 0
    except httpx.TransportError:
        return False


def response_to(url: str, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> httpx.Response:
    """The response to a request that may be longer than httpx sends; path and headers are sent as they are."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        connection.putrequest(method, path)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(body)
        answer = connection.getresponse()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    finally:
        connection.close()


def assert_is_problem(response: httpx.Response, status: int) -> None:
    """The response is a problem document (RFC 9457) with this status, which says what is wrong and what to do."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert (document["status"], bool(document["title"])) == (status, True)
    assert document["detail"].count(".") >= 1
