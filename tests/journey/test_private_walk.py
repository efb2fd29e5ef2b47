"""A private walk with real processes: links, a restart of the API in between, and deletion that leaves nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.support.client import Client
from tests.support.deployment import Deployment
from tests.support.processes import WEIGHTS, Service, wait_until
from tests.support.takeovers import new_request

KEPT_FOR_A_DAY = {"charges", "uploads", "notice_charges"}


@pytest.fixture
def service(deployment: Deployment, tmp_path: Path):
    """An API of its own, with the replicas of the shared deployment."""
    settings = {
        "MOMALISA_MODEL_CARD": str(WEIGHTS / "card.json"),
        "MOMALISA_BUCKET": str(tmp_path / "bucket"),
        "MOMALISA_DATABASE_URL": f"sqlite:///{tmp_path}/catalogue.sqlite",
        "MOMALISA_REPLICAS": " ".join(proxy.url for proxy in deployment.proxies),
        "MOMALISA_REFRESH_S": "0.5",
    }
    service = Service("private", ["momalisa", "serve"], settings, tmp_path / "private.log")
    service.start()
    yield service
    service.end()


def rows_of_owners(database: Path) -> set[str]:
    """The tables with rows about what owners did, or about walks."""
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in names}
        theirs = [name for name in names if columns[name] & {"owner", "walk_id", "spec"}]
        return {name for name in theirs if connection.execute(f"SELECT 1 FROM {name}").fetchone()}


def test_a_private_walk_from_its_request_to_its_deletion(service: Service, tmp_path: Path) -> None:
    """Its owner, somebody with a link, and strangers, before and after the API was killed and started again."""
    client = Client(service.url)
    wait_until(lambda: client.awake())
    with httpx.Client(base_url=service.url) as owner, httpx.Client(base_url=service.url) as other:
        created = owner.post("/api/v1/walks", json=new_request(frames=3, listed=False))
        assert created.status_code == 201, created.text
        url = created.json()["url"]
        assert other.get(url).status_code == 404
        wait_until(lambda: owner.get(url).json()["state"] == "done", every_s=0.1)
        links = [owner.post(f"{url}/links", json={"hours": hours}).json()["url"] for hours in (1, 1 / 3600)]
        token, short = (link.rpartition("?link=")[2] for link in links)
        service.restart()
        wait_until(lambda: client.awake())
        opened = other.get(url, params={"link": token}).json()
        assert len(opened["films"]) == 5
        assert {other.get(film).status_code for film in opened["films"].values()} == {200}
        assert {other.get(film.partition("?")[0]).status_code for film in opened["films"].values()} == {404}
        wait_until(lambda: other.get(url, params={"link": short}).status_code == 410)
        assert owner.get(url).status_code == 200
        picture = owner.post("/api/v1/pictures", content=owner.get(f"{url}/frames/0.png").content)
        assert picture.status_code == 201
        assert owner.delete(url, params={"erase": True}).status_code == 204
        assert owner.get(url).status_code == other.get(url, params={"link": token}).status_code == 404
        assert owner.delete("/api/v1/me").status_code == 204
    assert [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()] == []
    # The files of a walk that has just been deleted are looked for again.
    assert rows_of_owners(tmp_path / "catalogue.sqlite") <= KEPT_FOR_A_DAY | {"erasures"}
