"""The nginx of the VM, in front of the frontend's nginx: its configuration, checked and run by a real nginx."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2
import pytest
import yaml

from tests.ops.certificates import certificate
from tests.ops.playbooks import DEPLOYMENT, Operator
from tests.support.gallery import make_gallery
from tests.support.nginx import NGINX, assert_is_problem, nginx, read_by_nginx, response_to, running
from tests.support.processes import free_port


def nginx_version() -> tuple[int, ...]:
    """The version of the installed nginx."""
    assert NGINX, "nginx is not installed: make system-packages installs it"
    output = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    return tuple(int(part) for part in re.findall(r"\d+", output)[:3])


def render(folder: Path, domain: str = "", upstream: str = "127.0.0.1:8080") -> Path:
    """Write the configuration that the role writes, inside the one that Debian's nginx has."""
    template = (DEPLOYMENT / "roles/webserver/templates/momalisa.conf.j2").read_text()
    site = (
        jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
        .from_string(template)
        .render(
            ansible_managed="test",
            webserver_domain=domain,
            webserver_has_certificate=bool(domain),
            webserver_upstream=upstream,
        )
    )
    if nginx_version() < (1, 25, 1):
        # The directive is newer than this nginx; Debian 13's supports it.
        site = site.replace("http2 on;", "")
    site = site.replace("/var/log/nginx/", f"{folder}/")
    pem = certificate(folder)
    for name in ("fullchain", "privkey"):
        site = site.replace(f"/etc/letsencrypt/live/{domain}/{name}.pem", str(pem))
    config = folder / "nginx.conf"
    config.write_text(f"pid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{site}\n}}\n")
    return config


@contextmanager
def webserver(folder: Path, upstream: str) -> Iterator[str]:
    """The URL of a running webserver without a domain."""
    port = free_port()
    config = render(folder, upstream=upstream)
    text = re.sub(r"listen 80\b", f"listen 127.0.0.1:{port}", config.read_text())
    config.write_text(text.replace("listen [::]:80 default_server;", ""))
    with running(config, port) as url:
        yield url


@pytest.mark.parametrize("domain", ["", "momalisa.example.org"])
def test_nginx_accepts_the_configuration(tmp_path: Path, domain: str) -> None:
    """With a configuration that nginx rejects, the site would keep the old one, or have none."""
    done = read_by_nginx(render(tmp_path, domain))
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A webserver in front of a frontend that has no api."""
    inner, outer = tmp_path_factory.mktemp("frontend"), tmp_path_factory.mktemp("webserver")
    gallery = make_gallery(inner / "dist")
    no_api = f"127.0.0.1:{free_port()}"
    with nginx(inner, gallery, no_api) as frontend, webserver(outer, frontend.removeprefix("http://")) as url:
        yield url


CASES: dict[str, tuple[str, str, dict[str, str], bytes, int]] = {
    # The frontend answers these, the first two because it has no api here.
    "a long address": ("GET", f"/api/v1/walk?start={'a' * 60_000}", {}, b"", 503),
    "cookies of other apps": ("GET", "/api/v1/model", {"Cookie": "c" * 9000}, b"", 503),
    "a large body": ("POST", "/api/v1/walks", {"Content-Type": "application/json"}, b" " * 5_000_000, 413),
    # The webserver answers these.
    "a longer address": ("GET", f"/api/v1/walk?start={'a' * 300_000}", {}, b"", 414),
    "a longer header": ("GET", "/api/v1/model", {"Cookie": "c" * 300_000}, b"", 431),
    "a broken escape": ("GET", "/%zz", {}, b"", 400),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_are_problems_and_the_limits_are_the_frontends(url: str, case: str) -> None:
    """Clients parse problem documents, not HTML."""
    *request, status = CASES[case]
    assert_is_problem(response_to(url, *request), status)


def test_a_frontend_that_is_away_is_a_problem(tmp_path: Path) -> None:
    """During an update the containers are away for some seconds."""
    with webserver(tmp_path, f"127.0.0.1:{free_port()}") as url:
        away = response_to(url, "GET", "/api/v1/walks", {})
    assert_is_problem(away, 503)
    assert away.headers["retry-after"]


def test_its_logs_have_neither_queries_nor_whole_addresses(tmp_path: Path) -> None:
    """Queries can have prompts, and the tokens of links; also where the frontend is away."""
    with webserver(tmp_path, f"127.0.0.1:{free_port()}") as url:
        assert (
            response_to(url, "GET", "/api/v1/walk?start=giraffe&link=token", {"Referer": "giraffe"}).status_code == 503
        )
    logged = "".join((tmp_path / name).read_text() for name in ("access.log", "error.log", "nginx.log"))
    assert '127.0.0.0 "GET /api/v1/walk HTTP/1.1" 503' in logged
    assert not [word for word in ("giraffe", "token", "127.0.0.1") if word in logged]


@pytest.mark.parametrize(
    ("variables", "address"),
    [({}, "http://192.0.2.7"), ({"momalisa_domain": "momalisa.example.org"}, "https://momalisa.example.org")],
)
def test_the_play_ends_with_the_address(tmp_path: Path, variables: dict[str, str], address: str) -> None:
    """Of a machine of one's own, too, which no other task prints."""
    hosts = {
        "museum": {
            "ansible_host": "192.0.2.7",
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
        }
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"momalisa_vm": {"hosts": hosts}}}}))
    played = Operator(tmp_path).play(
        "deploy-setup-webserver.yml",
        *("-i", "inventory", "-i", str(tmp_path / "hosts.yml"), "--tags", "address"),
        **{"momalisa_use_google_vm": False, "momalisa_wait_for_vm": False, "ansible_become": False} | variables,
    )
    assert played.code == 0, played.error
    assert played.tasks[-1][1]["msg"] == f"MoMALisa is at {address}"
