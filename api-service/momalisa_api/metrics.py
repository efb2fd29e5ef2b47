"""Metrics for Prometheus. Values that all processes share are read from the catalogue at each scrape."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SHARD_BUCKETS_S = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one app, in a separate registry."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.shard_seconds = Histogram(
            "momalisa_shard_seconds",
            "Seconds from the request to a replica until its last frame",
            buckets=SHARD_BUCKETS_S,
            registry=registry,
        )
        self.shards_lost = Counter("momalisa_shards_lost", "Failed attempts at a shard", registry=registry)
        self.backups = Counter("momalisa_backups", "Late shards that a second replica rendered too", registry=registry)
        self.takeovers = Counter("momalisa_takeovers", "Jobs taken over from a lost worker", registry=registry)
        self._awake = Gauge(
            "momalisa_replicas_awake", "Replicas that can render, by model", ["model"], registry=registry
        )
        self._pending = Gauge(
            "momalisa_frames_pending", "Frames that unfinished walks still need, by model", ["model"], registry=registry
        )
        self._unreadable = Gauge(
            "momalisa_walks_unreadable",
            "Walks in the catalogue that this release cannot read, as far as this process has met them",
            registry=registry,
        )
        self._walks = Gauge("momalisa_walks", "Walks by state", ["state"], registry=registry)

    def scrape(
        self,
        *,
        replicas_awake: Mapping[str, int],
        frames_pending: Mapping[str, int],
        unreadable: int,
        walks: Mapping[Any, int],
    ) -> bytes:
        """The text that Prometheus reads.

        replicas_awake, frames_pending: by model; walks: how many walks are in each state.
        """
        for gauge, values in ((self._awake, replicas_awake), (self._pending, frames_pending)):
            gauge.clear()
            for model, value in values.items():
                gauge.labels(model).set(value)
        self._unreadable.set(unreadable)
        for state, count in walks.items():
            self._walks.labels(state).set(count)
        return generate_latest(self._registry)
