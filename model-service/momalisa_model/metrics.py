"""What Prometheus is told: one registry an app, so that two apps in one process do not share their counts."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)


class Metrics:
    """The counters of one replica, all named momalisa_model_*."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        name = "momalisa_model_{}".format
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, buckets=SECONDS, registry=self.registry)
        self.shards = counter(name("shards"), "Shards that were on the device, by how they ended", ["outcome"])
        self.frames = counter(name("frames"), "Frames rendered that were asked for: padding does not count")
        self.marked = counter(name("marked"), "Frames that the model's safety checker marked")
        self.cancelled = counter(name("cancelled"), "Shards cut short on the device, their caller gone")
        self.out_of_memory = counter(name("out_of_memory"), "Shards that needed more memory than there is")
        self.turned_away = counter(name("turned_away"), "Requests told that the queue is full")
        self.queue_depth = gauge(name("queue_depth"), "Requests on the device, in line, or being sent")
        self.ready = gauge(name("ready"), "1 once the weights are loaded and warmed")
        self.shard_seconds = histogram(name("shard_seconds"), "Seconds a shard held the device")
        self.frame_seconds = histogram(name("frame_seconds"), "A frame's even share of its micro-batch's seconds")

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self.registry)
