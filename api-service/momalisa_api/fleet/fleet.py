"""The fleet: every idle replica takes the next shard in line, so the fast take more and nobody waits for the slow.

When the line is empty, an idle replica renders a late shard a second time and the first frames win (the backup tasks
of Dean and Ghemawat, "MapReduce", 2004, section 3.6). A frame is a pure function of recipe and fraction, so it does
not matter whose copy stays.
"""

import socket
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import urlsplit

import anyio
import httpx
import structlog

from momalisa_api.fleet import vertex
from momalisa_api.fleet.dispatch import Event, Job, Line, Worker
from momalisa_api.fleet.replica import Replica, ReplicaAway, ReplicaBusy, ReplicaLost
from momalisa_api.fleet.wire import Head
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Problem, WalkFailed
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Shard

log = structlog.get_logger()

DNS_PREFIX = "dns+"
FIRST_GUESS_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0


class Replicas:
    """All replicas of a deployment. `run` keeps the fleet; `render` has a shard rendered by it."""

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
        token: vertex.Token | None = None,
    ) -> None:
        """addresses: urls separated by spaces; dns+http://NAME:PORT is every address of a name, vertex+https://… an
        endpoint of Vertex AI. token: what to call that with; None takes this process's own account.
        """
        self._addresses = addresses.split()
        self._client = client
        self._card = card
        self._metrics = metrics
        self._refresh_s = refresh_s
        self._shard_tries = shard_tries
        self._token = token or vertex.GoogleToken()
        self._workers: dict[str, Worker] = {}
        self._line = Line(self._fit, metrics, backups=backups, first_guess_s=first_guess_s)

    @property
    def awake(self) -> int:
        """How many replicas can take work."""
        return len(self._fit())

    @property
    def shard_s(self) -> float | None:
        """Seconds that a shard takes of late, averaged over the fleet; None before the first."""
        known = [worker.shard_s for worker in self._workers.values() if worker.shard_s is not None]
        return sum(known) / len(known) if known else None

    def _fit(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.fit]

    async def run(self) -> None:
        """Keep one worker a replica, for ever; addresses are looked up again every few seconds."""
        async with anyio.create_task_group() as tasks:
            while True:
                urls = await self._resolve()
                for url in urls - self._workers.keys():
                    worker = self._workers[url] = Worker(self._dial(url))
                    tasks.start_soon(self._serve, worker)
                for url in self._workers.keys() - urls:
                    self._workers.pop(url).scope.cancel()
                await anyio.sleep(self._refresh_s)

    async def render(self, shard: Shard, tag: int = 0) -> AsyncGenerator[Event]:
        """What happens to a shard, to its last frame, however many replicas it takes. The lowest tag is next.

        Waits where no replica is awake. Raises WalkFailed where no replica can render the shard.
        Closing the iterator takes the shard back.
        """
        send, receive = anyio.create_memory_object_stream[Event](0)
        job = Job(shard.recipe, set(shard.fractions), send, tag)
        self._line.add(job)
        try:
            async with receive:
                async for event in receive:
                    yield event
            if job.problem:
                raise job.problem
        finally:
            self._line.drop(job)

    def _dial(self, url: str) -> Replica:
        if url.startswith(vertex.PREFIX):
            return vertex.VertexReplica(url, self._client, self._card, self._token)
        return Replica(url, self._client, self._card)

    async def _resolve(self) -> set[str]:
        """The urls of all replicas. A name that cannot be looked up just now keeps the addresses it had."""
        urls: set[str] = set()
        for address in self._addresses:
            if address.startswith(vertex.PREFIX):
                urls.update(vertex.lanes_of(address))
                continue
            if not address.startswith(DNS_PREFIX):
                urls.add(address.rstrip("/"))
                continue
            where = urlsplit(address.removeprefix(DNS_PREFIX))
            try:
                found = await anyio.getaddrinfo(where.hostname, where.port or 80, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                log.warning("name not found", name=where.hostname, error=str(error))
                return urls | self._workers.keys()
            urls |= {f"{where.scheme}://{_host(str(place[0]))}:{place[1]}" for *_, place in found}
        return urls

    async def _serve(self, worker: Worker) -> None:
        """A replica's life: look whether it is fit, give it a shard, again."""
        with worker.scope:
            while True:
                if time.monotonic() - worker.looked_at > self._refresh_s:
                    worker.fit = await self._look_at(worker)
                    worker.looked_at = time.monotonic()
                if not worker.fit:
                    await anyio.sleep(self._refresh_s)
                elif job := await self._line.next_for(worker, self._refresh_s):
                    await self._work(worker, job)

    async def _look_at(self, worker: Worker) -> bool:
        try:
            return await worker.replica.is_fit()
        except Exception:
            # One odd answer must not end the fleet.
            log.exception("look broke", url=worker.replica.url)
            return False

    async def _work(self, worker: Worker, job: Job) -> None:
        """Have one replica render what a job lacks, and see to the job whatever comes of it."""
        run = self._line.begin(job, worker)
        pause_s = 0.0
        try:
            with run.scope:
                await self._carry(worker, job)
                worker.looked_at = time.monotonic()
                if not job.over:
                    worker.took(worker.looked_at - run.started)
                    self._metrics.shard_seconds.observe(worker.looked_at - run.started)
        except ReplicaBusy as busy:
            pause_s = busy.pause_s
        except ReplicaAway as away:
            log.warning("replica away", url=worker.replica.url, reason=str(away))
            worker.fit, worker.looked_at = False, time.monotonic()
        except (ReplicaLost, Problem) as loss:
            pause_s = self._lose(worker, job, loss)
        except Exception as bug:
            log.exception("conversation broke", url=worker.replica.url)
            pause_s = self._lose(worker, job, bug)
        finally:
            self._line.settle(job, worker)
        await anyio.sleep(pause_s)

    async def _carry(self, worker: Worker, job: Job) -> None:
        """Pass on what a replica answers. Raises what Replica.render raises; ReplicaLost where it leaves frames out."""
        try:
            async with aclosing(worker.replica.render(job.recipe, tuple(sorted(job.lacking)))) as answer:
                async for line in answer:
                    if isinstance(line, Head):
                        await job.events.send(line)
                    elif line.fraction in job.lacking:
                        # Sent first: were this run cancelled in between, the frame would be nobody's.
                        await job.events.send(line)
                        job.lacking.discard(line.fraction)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return
        if job.lacking and len(job.runs) == 1:
            raise ReplicaLost("the answer ended before its last frame")

    def _lose(self, worker: Worker, job: Job, loss: Exception) -> float:
        """Note that a replica failed a job; past its tries, or past hope, the job fails.

        Returns seconds for the replica to pause, more with each loss: one that fails fast must not eat the line.
        """
        log.warning("shard lost", url=worker.replica.url, reason=str(loss))
        worker.looked_at = float("-inf")
        self._metrics.shards_lost.inc()
        job.losses.append(worker)
        worker.losses_in_a_row += 1
        if isinstance(loss, Problem):
            job.end(loss)
        elif len(job.losses) >= self._shard_tries:
            job.end(WalkFailed(f"{len(job.losses)} tries at these frames failed, the last of them with: {loss}"))
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (worker.losses_in_a_row - 1))


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
