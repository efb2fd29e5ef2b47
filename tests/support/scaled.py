"""The API scaled out: one web process, two workers and three replicas, with PostgreSQL and a fake GCS.

There is one proxy for each worker and replica, so that tests know which worker requested which frame.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import httpx

from momalisa_api.walks.between import BetweenRecipe
from momalisa_api.walks.spec import Frame
from tests.support.client import TLS, Client
from tests.support.gcs import FakeGcs
from tests.support.postgres import Postgres, migrate, server
from tests.support.processes import WEIGHTS, Service, Trap, wait_until
from tests.support.proxy import Proxy

REPLICAS, WORKERS = 3, 2
LEASE_S = 3.0
SEED = int(os.environ.get("MOMALISA_SEED") or random.randrange(2**32))


class Scaled(Client):
    """All processes, and what proxies, bucket and database record about them."""

    def __init__(self, folder: Path, environment: dict[str, str], postgres: Postgres, gcs: FakeGcs) -> None:
        """folder: for the logs; environment: settings of all processes of the API. Starts nothing."""
        self.postgres = postgres
        self.gcs = gcs
        weights = {"MOMALISA_MODEL_ID": str(WEIGHTS), "MOMALISA_THREADS": "1"}
        names = [f"replica-{number + 1}" for number in range(REPLICAS)]
        self.replicas = [Service(name, ["momalisa-model"], weights, folder / f"{name}.log") for name in names]
        self.proxies: dict[str, list[Proxy]] = {}

        def api(name: str, role: str) -> Service:
            proxies = self.proxies[name] = [Proxy(replica.url) for replica in self.replicas]
            own = {**environment, "MOMALISA_REPLICAS": " ".join(proxy.url for proxy in proxies)}
            return Service(name, ["momalisa", "serve", "--role", role], own, folder / f"{name}.log")

        self.web = api("web", "web")
        self.workers = [api(f"worker-{number + 1}", "worker") for number in range(WORKERS)]
        super().__init__(self.web.url)

    @property
    def api(self) -> list[Service]:
        """All processes of the API."""
        return [self.web, *self.workers]

    @contextmanager
    def trap(self, trap: Trap) -> Iterator[Trap]:
        """Set a trap for every process of the API until the block ends."""
        for service in self.api:
            service.on_line = trap.on_line
        try:
            yield trap
        finally:
            for service in self.api:
                service.on_line = lambda service, line: None

    def rendered(self) -> Counter[str]:
        """How many times each frame was sent by a replica, by its key in the bucket."""
        frames = (frame for each in self.proxies.values() for proxy in each for frame in proxy.recording.frames)
        return Counter(_key(*frame) for frame in frames)

    def requested(self, *workers: Service) -> Counter[str]:
        """How many times these workers (default: all) have requested each frame, by its key in the bucket."""
        return Counter(key for key, _ in self._calls(*workers))

    def requested_since(self, since: float) -> dict[str, float]:
        """The frames requested after a time (time.monotonic), and when each was last requested."""
        return {key: at for key, at in sorted(self._calls(), key=itemgetter(1)) if at > since}

    def _calls(self, *workers: Service) -> Iterator[tuple[str, float]]:
        for worker in workers or self.workers:
            for proxy in self.proxies[worker.name]:
                for call in list(proxy.recording.calls):
                    yield from ((_key(call.recipe, fraction), call.at) for fraction in call.fractions)

    def in_flight(self, *workers: Service) -> set[str]:
        """The frames that workers have requested and that are not in the bucket."""
        return self.requested(*workers).keys() - self.gcs.objects.keys()

    def worker_at(self, port: int) -> Service:
        """The worker that has a connection from a local port."""
        return next(worker for worker in self.workers if port in worker.ports())

    def walk_column(self, column: str, walk_id: str) -> Any:
        """A column of a walk in the catalogue, read without the API."""
        [(found,)] = self.postgres.rows(f"SELECT {column} FROM walks WHERE id = $1", walk_id)
        return found

    def stored_frames(self, walk_id: str) -> set[int]:
        """The frames of a walk that the catalogue records as stored."""
        return {frame for (frame,) in self.postgres.rows("SELECT frame FROM landings WHERE walk_id = $1", walk_id)}

    def jobs(self, walk_id: str) -> int:
        """How many jobs of a walk are in the queue."""
        [(found,)] = self.postgres.rows(
            "SELECT count(*) FROM pgqueuer WHERE convert_from(payload, 'UTF8') LIKE '%' || $1 || '%'", walk_id
        )
        return int(found)

    def request_until_accepted(self, **request: Any) -> dict[str, Any]:
        """POST a walk, and retry if the process dies in between."""

        def post() -> dict[str, Any] | None:
            with suppress(httpx.TransportError):
                answer = httpx.post(self.url + "/api/v1/walks", json=request, timeout=30, verify=TLS)
                return answer.json() if answer.is_success else None
            return None

        walk: dict[str, Any] = wait_until(post)
        return walk

    def wait_until_ready(self) -> None:
        """Start replicas that do not run. Wait until every process is ready and all replicas are awake."""
        for replica in self.replicas:
            if not replica.running:
                replica.start()
        for service in [*self.replicas, *self.api]:
            wait_until(partial(is_ready, service))
        wait_until(lambda: self.awake() == REPLICAS)


def is_ready(service: Service) -> bool:
    try:
        return httpx.get(service.url + "/readyz", verify=TLS).is_success
    except httpx.TransportError:
        return False


@lru_cache(maxsize=10_000)
def _key(recipe: str, fraction: float) -> str:
    """The key of a frame in the bucket. recipe: the JSON of a render request."""
    fields = json.loads(recipe)
    fields["steps"] = fields.pop("num_inference_steps")
    return Frame(BetweenRecipe(**fields), fraction).key


@contextmanager
def scaled(folder: Path) -> Iterator[Scaled]:
    """All processes. Starts those of the API; `wait_until_ready` also starts the replicas. Kills all at the end."""
    with ExitStack() as stack:
        gcs = stack.enter_context(FakeGcs().running())
        postgres = stack.enter_context(server())
        environment = {
            "MOMALISA_MODEL_CARD": str(WEIGHTS / "card.json"),
            "MOMALISA_BUCKET": f"gs://{gcs.bucket}",
            "STORAGE_EMULATOR_HOST": gcs.url,
            "MOMALISA_DATABASE_URL": postgres.url,
            "MOMALISA_LEASE_S": str(LEASE_S),
            "MOMALISA_RECONCILE_S": "1",
            "MOMALISA_REFRESH_S": "0.5",
            "MOMALISA_LOG_LEVEL": "debug",
            # A late shard would be rendered twice, which is correct but would disturb the counts of the tests.
            "MOMALISA_BACKUP_SHARDS": "false",
        }
        migrate(postgres.url)
        running = Scaled(folder, environment, postgres, gcs)
        for proxy in (proxy for each in running.proxies.values() for proxy in each):
            stack.enter_context(proxy.running())
        for service in [*running.replicas, *running.api]:
            stack.callback(service.end)
        for service in running.api:
            service.start()
        yield running


@contextmanager
def calm(folder: Path, replicas: list[Service]) -> Iterator[Client]:
    """The same API as one undisturbed process with a folder as its bucket, and with the same replicas."""
    settings = {
        "MOMALISA_MODEL_CARD": str(WEIGHTS / "card.json"),
        "MOMALISA_BUCKET": str(folder / "bucket"),
        "MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite",
        "MOMALISA_REPLICAS": " ".join(replica.url for replica in replicas),
        "MOMALISA_REFRESH_S": "0.5",
    }
    service = Service("calm", ["momalisa", "serve", "--role", "all"], settings, folder / "calm.log")
    service.start()
    try:
        yield Client(service.url)
    finally:
        service.end()
