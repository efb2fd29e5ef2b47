"""All kinds of walks on one machine: a web process, a worker, and a replica with a small model for each engine.

The networks for depth and for instances have random weights: what they find means nothing, but is always the same.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.support.client import TLS, Client
from tests.support.depth_networks import save_depth_anything
from tests.support.instance_networks import save_instance_network
from tests.support.postgres import migrate, server
from tests.support.processes import Service, Trap, wait_until

RECIPE = """\
name: {name}
model_id: {folder}
engine: {engine}
license: none
commercial: true
download_gb: 0
card: {{width: 64, height: 64, max_size: 256, micro_batch: 2}}
resources: {{gpu: null, memory_gib: 1, cpus: 1}}
"""


def recipe_for(folder: Path, engine: str) -> Path:
    """The file of a recipe for the network in a folder."""
    file = folder.with_suffix(".yml")
    file.write_text(RECIPE.format(name=folder.name, folder=folder, engine=engine))
    return file


class Effects(Client):
    """The processes, which have one database and one folder as their bucket."""

    def __init__(self, web: Service, worker: Service, replica: Service) -> None:
        self.web, self.worker, self.replica = web, worker, replica
        super().__init__(web.url)

    def awake(self) -> int:
        """How many of the models have the replica; none of them is the default of walks between prompts."""
        try:
            models = httpx.get(f"{self.url}/api/v1/models", verify=TLS).json()["models"]
            return sum(model["replicas"]["awake"] for model in models)
        except (httpx.HTTPError, ValueError, KeyError):
            return 0

    def kill_at(self, event: str, nth: int, victim: Service) -> Trap:
        """A trap that kills the victim and starts it again when the worker logs the nth line of an event."""
        trap = Trap(event, nth, lambda _: victim.kill())
        self.worker.on_line = trap.on_line
        return trap


@contextmanager
def effects(folder: Path, **settings: str) -> Iterator[Effects]:
    """The processes once they are ready, killed at the end. settings: more of those of the API."""
    with ExitStack() as stack:
        postgres = stack.enter_context(server())
        migrate(postgres.url)
        recipes = [
            "styles",
            str(recipe_for(save_depth_anything(folder / "depth"), "parallax")),
            str(recipe_for(save_instance_network("rf_detr", folder / "instances"), "instances")),
        ]
        replica = Service(
            "replica",
            ["momalisa-model"],
            {"MOMALISA_RECIPES": " ".join(recipes), "MOMALISA_THREADS": "1"},
            folder / "replica.log",
        )
        environment = {
            "MOMALISA_BUCKET": str(folder / "bucket"),
            "MOMALISA_DATABASE_URL": postgres.url,
            "MOMALISA_REPLICAS": replica.url,
            "MOMALISA_LEASE_S": "1",
            "MOMALISA_RECONCILE_S": "1",
            "MOMALISA_REFRESH_S": "0.2",
            "MOMALISA_LOG_LEVEL": "debug",
            "MOMALISA_BACKUP_SHARDS": "false",
            **settings,
        }
        web, worker = (
            Service(role, ["momalisa", "serve", "--role", role], environment, folder / f"{role}.log")
            for role in ("web", "worker")
        )
        running = Effects(web, worker, replica)
        for service in (replica, web, worker):
            stack.callback(service.end)
            service.start()
        wait_until(running.awake)
        yield running
