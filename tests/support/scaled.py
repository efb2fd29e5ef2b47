"""The api as it is scaled out: one web process, two workers and three replicas, over PostgreSQL and a made-up GCS.

Each worker reaches each replica through a proxy of its own, so that it is known who asked for which frame.
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

from momalisa_api.walks.spec import Frame, Recipe
from tests.support.client import TLS, Client
from tests.support.gcs import FakeGcs
from tests.support.postgres import Postgres, migrate, server
from tests.support.processes import WEIGHTS, Service, Trap, wait_until
from tests.support.proxy import Proxy

REPLICAS, WORKERS = 3, 2
LEASE_S = 3.0
SEED = int(os.environ.get("MOMALISA_SEED") or random.randrange(2**32))


class Scaled(Client):
    """Everything that runs, and what is known of it without asking it."""

    def __init__(self, folder: Path, environment: dict[str, str], postgres: Postgres, gcs: FakeGcs) -> None:
        """folder: where the logs lie; environment: what the processes of the api are told alike. Nothing runs yet."""
        self.postgres = postgres
        self.gcs = gcs
        weights = {"MOMALISA_MODEL_ID": str(WEIGHTS), "MOMALISA_THREADS": "1"}
        names = [f"replica-{number + 1}" for number in range(REPLICAS)]
        self.replicas = [Service(name, ["momalisa-model"], weights, folder / f"{name}.log") for name in names]
        self.proxies: dict[str, list[Proxy]] = {}

        def api(name: str, role: str) -> Service:
            way = self.proxies[name] = [Proxy(replica.url) for replica in self.replicas]
            told = {**environment, "MOMALISA_REPLICAS": " ".join(proxy.url for proxy in way)}
            return Service(name, ["momalisa", "serve", "--role", role], told, folder / f"{name}.log")

        self.web = api("web", "web")
        self.workers = [api(f"worker-{number + 1}", "worker") for number in range(WORKERS)]
        super().__init__(self.web.url)

    @property
    def api(self) -> list[Service]:
        """All processes of the api."""
        return [self.web, *self.workers]

    @contextmanager
    def trap(self, trap: Trap) -> Iterator[Trap]:
        """Every process of the api is listened to for as long as the block lasts."""
        for service in self.api:
            service.hear = trap.hear
        try:
            yield trap
        finally:
            for service in self.api:
                service.hear = lambda service, line: None

    def rendered(self) -> Counter[str]:
        """How many times each frame was sent by a replica, by its key in the bucket."""
        frames = (frame for each in self.proxies.values() for proxy in each for frame in proxy.recording.frames)
        return Counter(_key(*frame) for frame in frames)

    def asked(self, *workers: Service) -> Counter[str]:
        """How many times workers (all of them, unless named) have asked for each frame, by its key in the bucket."""
        return Counter(key for key, _ in self._calls(*workers))

    def asked_since(self, since: float) -> dict[str, float]:
        """When each frame was last asked for, of those that were after a time (time.monotonic)."""
        return {key: at for key, at in sorted(self._calls(), key=itemgetter(1)) if at > since}

    def _calls(self, *workers: Service) -> Iterator[tuple[str, float]]:
        for worker in workers or self.workers:
            for proxy in self.proxies[worker.name]:
                for call in list(proxy.recording.asked):
                    yield from ((_key(call.recipe, fraction), call.at) for fraction in call.fractions)

    def in_flight(self, *workers: Service) -> set[str]:
        """The frames that workers have asked for and that have not come as far as the bucket."""
        return self.asked(*workers).keys() - self.gcs.objects.keys()

    def worker_at(self, port: int) -> Service:
        """The worker whose connection begins at a port."""
        return next(worker for worker in self.workers if port in worker.ports())

    def of_walk(self, column: str, walk_id: str) -> Any:
        """What the catalogue says of a walk, read past the api."""
        [(found,)] = self.postgres.rows(f"SELECT {column} FROM walks WHERE id = $1", walk_id)
        return found

    def landed(self, walk_id: str) -> set[int]:
        """Which frames the catalogue knows to be there."""
        return {frame for (frame,) in self.postgres.rows("SELECT frame FROM landings WHERE walk_id = $1", walk_id)}

    def jobs(self, walk_id: str) -> int:
        """How many jobs of a walk the queue holds."""
        [(found,)] = self.postgres.rows(
            "SELECT count(*) FROM pgqueuer WHERE convert_from(payload, 'UTF8') LIKE '%' || $1 || '%'", walk_id
        )
        return int(found)

    def ask_until_taken_in(self, **wish: Any) -> dict[str, Any]:
        """POST a walk as a visitor does whose first try may meet a dying process."""

        def post() -> dict[str, Any] | None:
            with suppress(httpx.TransportError):
                answer = httpx.post(self.url + "/api/v1/walks", json=wish, timeout=30, verify=TLS)
                return answer.json() if answer.is_success else None
            return None

        walk: dict[str, Any] = wait_until(post)
        return walk

    def wait_until_ready(self) -> None:
        """Until every process answers and knows all replicas, which are started where they do not run."""
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
    """Where a frame lies in the bucket, from the words of a call."""
    words = json.loads(recipe)
    words["steps"] = words.pop("num_inference_steps")
    return Frame(Recipe(**words), fraction).key


@contextmanager
def scaled(folder: Path) -> Iterator[Scaled]:
    """All processes, the api's started; `wait_until_ready` starts the replicas too. Killed at the end."""
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
            # A late shard would be rendered twice, which is right and spoils what is counted here.
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
    """The same api as one process over a folder, with the same replicas, which nobody disturbs."""
    told = {
        "MOMALISA_MODEL_CARD": str(WEIGHTS / "card.json"),
        "MOMALISA_BUCKET": str(folder / "bucket"),
        "MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite",
        "MOMALISA_REPLICAS": " ".join(replica.url for replica in replicas),
        "MOMALISA_REFRESH_S": "0.5",
    }
    service = Service("calm", ["momalisa", "serve", "--role", "all"], told, folder / "calm.log")
    service.start()
    try:
        yield Client(service.url)
    finally:
        service.end()
