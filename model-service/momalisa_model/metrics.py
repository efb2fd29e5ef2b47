"""What Prometheus is told: one registry an app, so that two apps in one process do not share their counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)


class Metrics:
    """The counters of one replica, all named momalisa_model_*."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        name = "momalisa_model_{}".format
        self.shards = Counter(name("shards"), "Shards by how they ended", ["outcome"], registry=self.registry)
        self.frames = Counter(name("frames"), "Frames rendered", registry=self.registry)
        self.cancelled = Counter(name("cancelled"), "Shards whose caller hung up", registry=self.registry)
        self.out_of_memory = Counter(name("out_of_memory"), "Shards too big for the device", registry=self.registry)
        self.turned_away = Counter(name("turned_away"), "Shards told that the lane is full", registry=self.registry)
        self.lane_depth = Gauge(name("lane_depth"), "Shards on the device and in line", registry=self.registry)
        self.ready = Gauge(name("ready"), "1 once the weights are loaded and warmed", registry=self.registry)
        self.shard_seconds = Histogram(
            name("shard_seconds"), "Seconds a shard held the device", buckets=SECONDS, registry=self.registry
        )
        self.frame_seconds = Histogram(
            name("frame_seconds"), "Seconds of the device a frame took", buckets=SECONDS, registry=self.registry
        )

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self.registry)
