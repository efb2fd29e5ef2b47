"""The fleet: every idle replica takes the next shard in the queue, so fast replicas render more than slow ones.

When the queue is empty, an idle replica renders a late shard a second time and the first frames are kept (the backup
tasks of Dean and Ghemawat, "MapReduce", 2004, section 3.6). A frame is a pure function of recipe and fraction, so
either copy is correct.
"""

import socket
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from typing import Final
from urllib.parse import urlsplit

import anyio
import httpx
import structlog

from momalisa_api.backoff import delay_s
from momalisa_api.fleet import vertex
from momalisa_api.fleet.dispatch import MAX_BLAMED, RenderEvent, ReplicaSlot, ShardQueue, ShardTask
from momalisa_api.fleet.replica import (
    READERS,
    Replica,
    ReplicaBusy,
    ReplicaLost,
    ReplicaOutOfMemory,
    ReplicaUnavailable,
)
from momalisa_api.fleet.wire import Head
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Problem, WalkFailed
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Shard

log = structlog.get_logger()

DNS_PREFIX: Final = "dns+"
FIRST_GUESS_S: Final = 10.0
# Idle replicas that are fit are checked at most once in this time, all together: the checks of a thousand would take
# more than a core. One that is gone is noticed when it gets a shard, too.
CHECK_OF_ONE_S: Final = 0.02
FIRST_LOSS_PAUSE_S: Final = 0.25
LONGEST_LOSS_PAUSE_S: Final = 30.0
# A broken replica gets another shard after this pause, which doubles with each shard that it loses.
FIRST_LEFT_OUT_S: Final = 10.0
LONGEST_LEFT_OUT_S: Final = 300.0
# A shard that two replicas have no memory for fits on no other: they are alike.
MAX_OUT_OF_MEMORY: Final = 2


class Fleet:
    """All replicas of a deployment. `run` keeps the list of them current; `render` has one shard rendered."""

    def __init__(
        self,
        addresses: str,
        client: httpx.AsyncClient,
        card: ModelCard,
        metrics: Metrics,
        *,
        refresh_s: float,
        shard_tries: int,
        backups: bool,
        first_guess_s: float = FIRST_GUESS_S,
        first_left_out_s: float = FIRST_LEFT_OUT_S,
        token: vertex.Token | None = None,
    ) -> None:
        """addresses: URLs separated by spaces; dns+http://NAME:PORT stands for all addresses of a name,
        vertex+https://… for an endpoint of Vertex AI. refresh_s: seconds between two checks of addresses and replicas.
        shard_tries: failed attempts at a shard before it fails. backups: whether late shards are rendered twice.
        first_guess_s: expected seconds per shard before any was measured. first_left_out_s: how long a broken replica
        gets no shards at first. token: returns access tokens for Vertex AI;
        by default those of this process's own Google account.
        """
        self._addresses = addresses.split()
        self._client = client
        self._card = card
        self._metrics = metrics
        self._refresh_s = refresh_s
        self._shard_tries = shard_tries
        self._first_left_out_s = first_left_out_s
        self._readers = anyio.CapacityLimiter(READERS)
        self._token = token or vertex.GoogleToken()
        self._slots: dict[str, ReplicaSlot] = {}
        self._queue = ShardQueue(self._fit, metrics, backups=backups, first_guess_s=first_guess_s)

    @property
    def awake(self) -> int:
        """How many replicas can take work."""
        return len(self._fit())

    @property
    def size(self) -> int:
        """How many replicas there are, with those that start or restart, and are awake in a moment."""
        return len(self._slots)

    @property
    def features(self) -> frozenset[str]:
        """What all replicas that can take work can render beyond the first release of the contract."""
        offered = [frozenset(slot.replica.features) for slot in self._fit()]
        return frozenset.intersection(*offered) if offered else frozenset()

    @property
    def shard_s(self) -> float | None:
        """Seconds that a shard takes at present, averaged over the fleet; None before the first."""
        measured = [slot.shard_s for slot in self._slots.values() if slot.shard_s is not None]
        return sum(measured) / len(measured) if measured else None

    @property
    def fingerprints(self) -> frozenset[str]:
        """The fingerprints of the replicas that can take work."""
        return frozenset(slot.replica.fingerprint for slot in self._fit())

    async def wait_awake(self) -> None:
        """Wait until a replica can take work."""
        await self._queue.wait_for_fit()

    def fingerprint_for(self, frames: int, load: Mapping[str, int], among: Collection[str] = ()) -> str | None:
        """The fingerprint whose replicas will finish a new walk first, or None while no replica is awake.

        frames: of the walk; load: frames of other unfinished walks by fingerprint; among: fingerprints to prefer.
        """
        guess_s, speeds = self.shard_s or FIRST_GUESS_S, dict[str, float]()
        for slot in self._fit():
            fingerprint = slot.replica.fingerprint
            speeds[fingerprint] = speeds.get(fingerprint, 0.0) + 1 / (slot.shard_s or guess_s)
        awake = speeds.keys() & {*among} or speeds.keys()
        return min(awake, key=lambda kind: ((load.get(kind, 0) + frames) / speeds[kind], kind), default=None)

    def _fit(self) -> list[ReplicaSlot]:
        return [slot for slot in self._slots.values() if slot.fit]

    async def run(self) -> None:
        """Serve one slot per replica until cancelled. Addresses are resolved again every `refresh_s`."""
        async with anyio.create_task_group() as tasks:
            while True:
                urls = await self._resolve()
                for url in urls - self._slots.keys():
                    slot = self._slots[url] = ReplicaSlot(self._replica_at(url))
                    tasks.start_soon(self._serve, slot)
                for url in self._slots.keys() - urls:
                    self._slots.pop(url).scope.cancel()
                    self._queue.fit_changed()
                await anyio.sleep(self._refresh_s)

    async def render(self, shard: Shard, tag: int = 0, fingerprint: str | None = None) -> AsyncGenerator[RenderEvent]:
        """Render a shard, on as many replicas as it takes. tag: position in the queue, the lowest first.

        fingerprint: only replicas that have it render the shard while one of them is awake; None: all do.
        Waits while no replica is awake. Raises WalkFailed if no replica can render the shard.
        Closing the iterator cancels the shard.
        """
        send, receive = anyio.create_memory_object_stream[RenderEvent](0)
        task = ShardTask(shard.recipe, set(shard.fractions), send, tag, fingerprint)
        self._queue.add(task)
        try:
            async with receive:
                async for event in receive:
                    yield event
            if task.problem:
                raise task.problem
        finally:
            self._queue.drop(task)

    def _replica_at(self, url: str) -> Replica:
        if url.startswith(vertex.PREFIX):
            return vertex.VertexReplica(url, self._client, self._card, self._token, readers=self._readers)
        return Replica(url, self._client, self._card, self._readers)

    async def _resolve(self) -> set[str]:
        """The URLs of all replicas. While a name cannot be resolved, its last addresses stay."""
        urls: set[str] = set()
        for address in self._addresses:
            if address.startswith(vertex.PREFIX):
                urls.update(vertex.concurrent_urls(address))
                continue
            if not address.startswith(DNS_PREFIX):
                urls.add(address.rstrip("/"))
                continue
            where = urlsplit(address.removeprefix(DNS_PREFIX))
            try:
                found = await anyio.getaddrinfo(where.hostname, where.port or 80, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                log.warning("cannot resolve the replicas' name", name=where.hostname, error=str(error))
                return urls | self._slots.keys()
            urls |= {f"{where.scheme}://{_host(str(place[0]))}:{place[1]}" for *_, place in found}
        return urls

    async def _serve(self, slot: ReplicaSlot) -> None:
        """Check whether a replica is fit, give it a task, repeat."""
        with slot.scope:
            while True:
                if slot.left_out:
                    await self._leave_out(slot)
                if anyio.current_time() - slot.checked_at > max(self._refresh_s, slot.fit * CHECK_OF_ONE_S * self.size):
                    fit = await self._check(slot)
                    # Another replica may have rendered what this one lost meanwhile.
                    self._set_fit(slot, fit and not slot.left_out)
                if not slot.fit:
                    await anyio.sleep(self._refresh_s)
                elif task := await self._queue.next_for(slot, self._refresh_s):
                    await self._work(slot, task)

    def _set_fit(self, slot: ReplicaSlot, fit: bool) -> None:
        changed = slot.fit is not fit
        slot.fit, slot.checked_at = fit, anyio.current_time()
        if changed:
            # Others may take tasks that were this one's, or wait for it.
            self._queue.fit_changed()

    async def _leave_out(self, slot: ReplicaSlot) -> None:
        """Give a replica that loses every shard nothing for a while, longer each time until it renders one."""
        pause_s = delay_s(slot.blamed - MAX_BLAMED + 1, self._first_left_out_s, LONGEST_LEFT_OUT_S)
        log.warning("replica left out: others render the shards that it loses", url=slot.replica.url, pause_s=pause_s)
        await anyio.sleep(pause_s)
        slot.left_out, slot.checked_at = False, float("-inf")

    async def _check(self, slot: ReplicaSlot) -> bool:
        try:
            return await slot.replica.is_fit()
        except Exception:
            # One unreadable answer must not end the fleet.
            log.exception("check of a replica failed", url=slot.replica.url)
            return False

    async def _work(self, slot: ReplicaSlot, task: ShardTask) -> None:
        """Have one replica render what a task lacks. Whatever the outcome, the task is settled."""
        run = self._queue.begin(task, slot)
        pause_s = 0.0
        try:
            with run.scope:
                await self._pass_on(slot, task)
                slot.checked_at = anyio.current_time()
                if not task.over:
                    slot.finished(slot.checked_at - run.started)
                    self._metrics.shard_seconds.observe(slot.checked_at - run.started)
        except ReplicaBusy as busy:
            pause_s = busy.pause_s
        except ReplicaUnavailable as unavailable:
            log.warning("replica unavailable", url=slot.replica.url, reason=str(unavailable))
            self._set_fit(slot, False)
        except (ReplicaLost, Problem) as loss:
            pause_s = self._lose(slot, task, loss)
        except Exception as bug:
            log.exception("unexpected error while a replica rendered", url=slot.replica.url)
            pause_s = self._lose(slot, task, bug)
        finally:
            self._queue.settle(task, slot)
        await anyio.sleep(pause_s)

    async def _pass_on(self, slot: ReplicaSlot, task: ShardTask) -> None:
        """Send a replica's answer to the task's stream, line by line.

        Raises what Replica.render raises, ReplicaLost for an answer that lacks frames, and ReplicaBusy if another
        replica should render the task because this one was started again with another fingerprint.
        """
        before = slot.replica.fingerprint
        try:
            async with aclosing(slot.replica.render(task.recipe, tuple(sorted(task.lacking)))) as answer:
                async for line in answer:
                    if isinstance(line, Head):
                        if line.fingerprint != before and not self._queue.suits(task, slot):
                            raise ReplicaBusy(0)
                        await task.events.send(line)
                    elif line.fraction in task.lacking:
                        # Sent first: if this run were cancelled in between, the frame would be lost.
                        await task.events.send(line)
                        task.lacking.discard(line.fraction)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return
        if task.lacking and len(task.runs) == 1:
            raise ReplicaLost("the answer ended before its last frame")

    def _lose(self, slot: ReplicaSlot, task: ShardTask, loss: Exception) -> float:
        """Record that a replica failed a task; after `shard_tries` failures, or one that is final, the task fails.

        Returns seconds for the replica to pause, longer with each loss: one that fails fast must not drain the queue.
        """
        log.warning("shard lost", url=slot.replica.url, reason=str(loss))
        slot.checked_at = float("-inf")
        self._metrics.shards_lost.inc()
        task.losses.append(slot)
        slot.losses_in_a_row += 1
        if isinstance(loss, ReplicaOutOfMemory):
            task.out_of_memory.append(slot)
        if isinstance(loss, Problem):
            task.end(loss)
        elif len(task.out_of_memory) >= min(MAX_OUT_OF_MEMORY, self._shard_tries):
            size = f"{task.recipe.width} x {task.recipe.height}"
            task.end(
                WalkFailed(f"The replicas have too little memory for frames of {size} pixels. Request smaller ones.")
            )
        elif len(task.losses) >= self._shard_tries:
            task.end(WalkFailed(f"{len(task.losses)} tries at these frames failed, the last of them with: {loss}"))
        return delay_s(slot.losses_in_a_row, FIRST_LOSS_PAUSE_S, LONGEST_LOSS_PAUSE_S)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
