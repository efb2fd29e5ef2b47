"""Prometheus metrics: one registry per app, so that two apps in one process do not share their counts."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)


class Metrics:
    """The metrics of one replica, all named momalisa_model_*."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        name = "momalisa_model_{}".format
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, buckets=SECONDS, registry=self.registry)
        self.shards = counter(name("shards"), "Shards that used the device, by outcome", ["outcome"])
        self.frames = counter(name("frames"), "Rendered frames, without padding", ["model"])
        self.extras = counter(name("extras"), "Files beside the frames that were sent", ["model"])
        self.marked = counter(name("marked"), "Frames that the model's safety checker marked", ["model"])
        self.cancelled = counter(name("cancelled"), "Shards cancelled on the device because the caller disconnected")
        self.out_of_memory = counter(name("out_of_memory"), "Shards that needed more memory than the device has")
        self.turned_away = counter(name("turned_away"), "Requests refused because the queue was full")
        self.queue_depth = gauge(name("queue_depth"), "Requests on the device, in the queue, or being sent")
        self.ready = gauge(name("ready"), "1 if all models are loaded and warmed up, else 0")
        self.batch_invariant = gauge(
            name("batch_invariant"),
            "1 if the warm-up found a frame's bits to be the same at each place in the batch",
            ["model"],
        )
        self.shard_seconds = histogram(name("shard_seconds"), "Seconds for which a shard used the device")
        self.packing_wait_seconds = counter(
            name("packing_wait_seconds"), "Seconds for which shards kept the device idle, waiting for packing threads"
        )
        self.frame_seconds = histogram(
            name("frame_seconds"), "A frame's equal share of the seconds of its micro-batch", labelnames=["model"]
        )

    def add(self, model: str) -> None:
        """Let the series of a model begin at zero."""
        for metric in (self.frames, self.extras, self.marked, self.batch_invariant, self.frame_seconds):
            metric.labels(model=model)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format, version 0.0.4."""
        return generate_latest(self.registry)
