"""The fleet: every idle replica takes the next shard in the queue, so fast replicas render more than slow ones.

When the queue is empty, an idle replica renders a late shard a second time and the first frames are kept (the backup
tasks of Dean and Ghemawat, "MapReduce", 2004, section 3.6). A frame is a pure function of recipe and fraction, so
either copy is correct.
"""

import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final
from urllib.parse import urlsplit

import anyio
import httpx
import structlog

from momalisa_api.backoff import delay_s
from momalisa_api.fleet import vertex
from momalisa_api.fleet.admission import Admission, Registry
from momalisa_api.fleet.dispatch import ReadSources, RenderEvent, ReplicaSlot, ShardQueue, ShardTask
from momalisa_api.fleet.holders import FIRST_GUESS_S, Holders
from momalisa_api.fleet.replica import (
    READERS,
    Replica,
    ReplicaBusy,
    ReplicaLost,
    ReplicaOutOfMemory,
    ReplicaUnavailable,
    ReplicaUnfit,
)
from momalisa_api.fleet.wire import NO_PICTURES, Head, Pictures, RenderedExtra
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Problem, Unavailable, WalkFailed
from momalisa_api.walks.model_card import ModelCard, ModelKey
from momalisa_api.walks.spec import Shard

log = structlog.get_logger()

DNS_PREFIX: Final = "dns+"
# Idle replicas that are fit are checked at most once in this time, all together: the checks of a thousand would take
# more than a core. One that is gone is noticed when it gets a shard, too.
CHECK_OF_ONE_S: Final = 0.02
FIRST_LOSS_PAUSE_S: Final = 0.25
LONGEST_LOSS_PAUSE_S: Final = 30.0
# A broken replica gets another shard after this pause, which doubles with each shard that it loses.
FIRST_LEFT_OUT_S: Final = 10.0
# A model keeps its card for so many intervals of checks while its replicas do not answer.
HOLD_CHECKS: Final = 3
# A shard that two replicas have no memory for fits on no other: they are alike.
MAX_OUT_OF_MEMORY: Final = 2


class Fleet:
    """All replicas of a deployment. `run` keeps the list of them current; `render` has one shard rendered."""

    def __init__(
        self,
        addresses: str,
        client: httpx.AsyncClient,
        registry: Registry,
        metrics: Metrics,
        *,
        refresh_s: float,
        shard_tries: int,
        backups: bool,
        first_guess_s: float = FIRST_GUESS_S,
        first_left_out_s: float = FIRST_LEFT_OUT_S,
        token: vertex.Token | None = None,
        endpoint_card: ModelCard | None = None,
    ) -> None:
        """addresses: URLs separated by spaces; dns+http://NAME:PORT stands for all addresses of a name,
        vertex+https://… for an endpoint of Vertex AI. refresh_s: seconds between two checks of addresses and replicas.
        shard_tries: failed attempts at a shard before it fails. backups: whether late shards are rendered twice.
        first_guess_s: expected seconds per shard before any was measured. first_left_out_s: how long a broken replica
        gets no shards at first. token: returns access tokens for Vertex AI;
        by default those of this process's own Google account. endpoint_card: of the model behind endpoints.
        """
        self._addresses = addresses.split()
        self._client = client
        self._registry = registry
        self._endpoint_card = endpoint_card
        self._metrics = metrics
        self._refresh_s = refresh_s
        self._shard_tries = shard_tries
        self._readers = anyio.CapacityLimiter(READERS)
        self._token = token or vertex.GoogleToken()
        self._slots: dict[str, ReplicaSlot] = {}
        self._logged: dict[str, str] = {}
        self._admission = Admission(registry, self._slots.values, HOLD_CHECKS * refresh_s)
        self._queue = ShardQueue(
            self._fit, metrics, backups=backups, first_guess_s=first_guess_s, first_left_out_s=first_left_out_s
        )

    @property
    def awake(self) -> int:
        """How many replicas can take work."""
        return len(self._fit())

    def holders(self, key: ModelKey) -> Holders:
        """The replicas of a model, with those that have not told yet what they hold."""
        return Holders(key, [slot for slot in self._slots.values() if key in slot.models or not slot.models])

    def by_name(self) -> Mapping[str, Holders]:
        """The replicas of each model that replicas hold, by its name."""
        found = [self.holders(key) for key in {key for slot in self._slots.values() for key in slot.models}]
        # While its revision changes, a model has two: that which is awake counts.
        return {one.key.model: one for one in sorted(found, key=lambda one: one.awake)}

    def serves(self, key: ModelKey) -> bool:
        """Whether walks of a model are rendered here: now, or when a replica of it is awake."""
        slots = self._slots.values()
        if any(slot.offers(key) for slot in slots):
            return True
        # Replicas behind a name or an endpoint come and go; those at fixed addresses are all that there can be.
        fixed = not any(address.startswith((DNS_PREFIX, vertex.PREFIX)) for address in self._addresses)
        complete = fixed and bool(slots) and all(slot.fit and key not in slot.models for slot in slots)
        return self._registry.known.awaits(key, complete=complete)

    async def wait_awake(self, key: ModelKey) -> None:
        """Wait until a replica of a model can take work. Raises Unavailable if the model is not served any more."""
        while not any(slot.offers(key) for slot in self._slots.values()):
            if not self.serves(key):
                raise _not_served(key)
            with anyio.move_on_after(self._refresh_s):
                await self._queue.wait_for_change()

    def _fit(self) -> list[ReplicaSlot]:
        return [slot for slot in self._slots.values() if slot.awake]

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
                    self._logged.pop(url, None)
                    self._queue.fit_changed()
                self._queue.end_waiting(lambda key: not self.serves(key), _not_served)
                await anyio.sleep(self._refresh_s)

    async def render(
        self,
        shard: Shard,
        tag: int = 0,
        fingerprint: str | None = None,
        pictures: Pictures = NO_PICTURES,
        sources: ReadSources | None = None,
    ) -> AsyncGenerator[RenderEvent]:
        """Render a shard, on as many replicas as it takes. tag: position in the queue, the lowest first.

        fingerprint: only replicas that have it render the shard while one of them is awake; None: all do. pictures:
        those of its recipe; sources: reads the frames of its clip.
        Waits while no replica that can render it is awake. Raises WalkFailed if no replica can render the shard, and
        Unavailable if its model is not served any more.
        Closing the iterator cancels the shard.
        """
        send, receive = anyio.create_memory_object_stream[RenderEvent](0)
        task = ShardTask(shard.recipe, set(shard.fractions), send, tag, fingerprint, pictures, shard.extras, sources)
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
            return vertex.VertexReplica(url, self._client, self._endpoint_card, self._token, readers=self._readers)
        return Replica(url, self._client, self._readers)

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
                often_s = slot.fit * CHECK_OF_ONE_S * len(self._slots)
                if anyio.current_time() - slot.checked_at > max(self._refresh_s, often_s):
                    self._set_fit(slot, await self._check(slot))
                if not slot.fit:
                    await anyio.sleep(self._refresh_s)
                elif task := await self._queue.next_for(slot, self._refresh_s):
                    await self._work(slot, task)

    def _set_fit(self, slot: ReplicaSlot, fit: bool) -> None:
        changed, now = slot.fit is not fit, anyio.current_time()
        if slot.fit or fit:
            slot.fit_at = now
        slot.fit, slot.checked_at = fit, now
        if changed:
            # Others may take tasks that were this one's, or wait for it.
            self._queue.fit_changed()

    async def _check(self, slot: ReplicaSlot) -> bool:
        """Find out whether a replica is fit, and which models it may render."""
        try:
            models, reasons = await self._admission.admit(slot, await slot.replica.models())
            if models != slot.models:
                slot.hold(models)
                self._queue.fit_changed()
        except ReplicaUnfit as unfit:
            # What it held counts until it answers again.
            models, reasons = {}, [str(unfit)]
        except Unavailable as unavailable:
            models, reasons = {}, [f"its model cannot be registered: {unavailable}"]
        except Exception:
            # One unreadable answer must not end the fleet.
            log.exception("check of a replica failed", url=slot.replica.url)
            models, reasons = {}, ["its check failed"]
        slot.told = True
        self._log_fitness(slot.replica.url, fit=bool(models), reason="; ".join(reasons))
        return bool(models)

    def _log_fitness(self, url: str, *, fit: bool, reason: str) -> None:
        """Log every change."""
        if reason != self._logged.get(url):
            self._logged[url] = reason
            log.info("replica is fit" if fit else "replica is unfit", url=url, reason=reason)

    async def _work(self, slot: ReplicaSlot, task: ShardTask) -> None:
        """Have one replica render what a task lacks. Whatever the outcome, the task is settled."""
        run = self._queue.begin(task, slot)
        pause_s = 0.0
        try:
            with run.scope:
                await self._pass_on(slot, task)
                slot.checked_at = anyio.current_time()
                if not task.over:
                    slot.finished(task.key, slot.checked_at - run.started)
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
        fractions, extras = tuple(sorted(task.lacking)), list[RenderEvent]()
        try:
            pictures = await task.pictures_for(fractions)
        except Problem as problem:
            # No replica is to blame.
            task.end(problem)
            return
        try:
            rendering = slot.replica.render(task.recipe, fractions, pictures, extras=task.extras)
            async with aclosing(rendering) as answer:
                async for line in answer:
                    if isinstance(line, Head):
                        if self._renew(slot, task.key, line.fingerprint) and not self._queue.suits(task, slot):
                            raise ReplicaBusy(0)
                        await task.events.send(line)
                    elif isinstance(line, RenderedExtra):
                        # With the first frame: another replica, if this one dies before, may find other things.
                        extras.append(line)
                    elif line.fraction in task.lacking:
                        # Sent first: if this run were cancelled in between, the frame would be lost.
                        for event in (*extras, line):
                            await task.events.send(event)
                        extras.clear()
                        task.lacking.discard(line.fraction)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return
        if task.lacking and len(task.runs) == 1:
            raise ReplicaLost("the answer ended before its last frame")

    def _renew(self, slot: ReplicaSlot, key: ModelKey, fingerprint: str) -> bool:
        """Record the fingerprint in an answer. Returns whether it is another one than the replica told before."""
        if key not in slot.models or slot.fingerprint(key) == fingerprint:
            return False
        slot.hold({**slot.models, key: slot.models[key].model_copy(update={"fingerprint": fingerprint})})
        return True

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


def _not_served(key: ModelKey) -> Unavailable:
    return Unavailable(f"no replica has the model {key.model} ({key.revision[:12]}), and none is expected")


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
