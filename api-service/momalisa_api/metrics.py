"""What this process counts for Prometheus. What all processes share is read from the catalogue at each scrape."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from momalisa_api.store.fair_queue import Turns

SHARD_BUCKETS_S = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """One registry a process: made by whoever assembles, no global."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.shard_seconds = Histogram(
            "momalisa_shard_seconds",
            "From asking a replica to its last frame",
            buckets=SHARD_BUCKETS_S,
            registry=registry,
        )
        self.shards_lost = Counter("momalisa_shards_lost", "Tries at a shard that failed", registry=registry)
        self.backups = Counter("momalisa_backups", "Late shards given to a second replica", registry=registry)
        self.takeovers = Counter("momalisa_takeovers", "Jobs taken over from a lost worker", registry=registry)
        self._awake = Gauge("momalisa_replicas_awake", "Replicas that can take work", registry=registry)
        self._pending = Gauge("momalisa_frames_pending", "Frames that open walks still lack", registry=registry)
        self._walks = Gauge("momalisa_walks", "Walks by state", ["state"], registry=registry)

    async def scrape(self, turns: Turns, awake: int) -> bytes:
        """The text that Prometheus reads."""
        self._awake.set(awake)
        self._pending.set(await turns.frames_pending())
        for state, count in (await turns.counts()).items():
            self._walks.labels(state).set(count)
        return generate_latest(self._registry)
