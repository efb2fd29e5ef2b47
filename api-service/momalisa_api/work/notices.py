"""Tells those who want to know that a walk has ended: a job of the queue for each walk with notices that are due.

The catalogue says what is due, so a lost job is queued again. A notice is deleted after its delivery: a worker that is
killed in between delivers it twice.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import anyio
import structlog

from momalisa_api.backoff import repeat_forever, retry_forever
from momalisa_api.concurrency import task_group
from momalisa_api.problems import Unavailable
from momalisa_api.store.notice_limits import NoticeBook
from momalisa_api.store.notices import Notice, NoticeKind, Notices
from momalisa_api.store.notifications import WalkChanges
from momalisa_api.store.queue import Job, Kind, Queue, RetryLater
from momalisa_api.work.delivery import FIRST_DELIVERY_PAUSE_S, MAX_DELIVERIES, NotDelivered, pause_s
from momalisa_api.work.mail import Letters, Smtp
from momalisa_api.work.webhooks import WebhookCaller

NOTICE_CHECK_S: Final = 1.0
NOTICE_PRUNE_S: Final = 3600.0
LONGEST_NOTICE_PAUSE_S: Final = 10.0
NOTICE_JOBS_IN_FLIGHT: Final = 8
NOTICE_DRAIN_S: Final = 4.0
LINK_VALID: Final = timedelta(days=7)

# Makes the token of a link that opens a private walk: its id, its number, and when the link ends.
MakeLink = Callable[[str, int, datetime], str]

log = structlog.get_logger()


class Notifier:
    """Delivers notices. Any number of workers share them through the queue."""

    def __init__(
        self,
        notices: Notices,
        book: NoticeBook,
        queue: Queue,
        changes: WalkChanges,
        webhooks: WebhookCaller,
        mail: tuple[Letters, Smtp] | None,
        *,
        public_url: str,
        make_link: MakeLink,
        poll_s: float,
        check_s: float = NOTICE_CHECK_S,
        first_pause_s: float = FIRST_DELIVERY_PAUSE_S,
    ) -> None:
        """mail: None without an SMTP server; public_url: without a slash at the end; poll_s: seconds between two checks
        for notices that are due while no walk changes; check_s: the shortest time between two checks;
        first_pause_s: before the second delivery.
        """
        self._notices = notices
        self._book = book
        self._queue = queue
        self._changes = changes
        self._webhooks = webhooks
        self._mail = mail
        self._public_url = public_url
        self._make_link = make_link
        self._poll_s = poll_s
        self._check_s = check_s
        self._first_pause_s = first_pause_s
        self._stopped = anyio.Event()

    async def run(self) -> None:
        """Deliver notices until the queue ends, or until cancelled."""
        async with anyio.create_task_group() as tasks:
            for act, every_s in ((self._queue_due, self._check_s), (self._book.prune, NOTICE_PRUNE_S)):
                periodic = partial(repeat_forever, longest_s=LONGEST_NOTICE_PAUSE_S, failed=_log_failed_check)
                tasks.start_soon(partial(periodic, act, every_s))
            await self._queue.run({Kind.NOTICE: self._do}, NOTICE_JOBS_IN_FLIGHT)
            tasks.cancel_scope.cancel()
        self._stopped.set()

    async def wait_stopped(self) -> None:
        """Wait until no delivery is in progress, at most `NOTICE_DRAIN_S` seconds. The queue must have ended."""
        with anyio.move_on_after(NOTICE_DRAIN_S, shield=True):
            await self._stopped.wait()

    async def _queue_due(self) -> None:
        """Queue jobs for what is due, when a walk changes or after some time."""
        await self._changes.wait(self._poll_s)
        await self._queue.put([Job(Kind.NOTICE, walk_id, plan=0) for walk_id in await self._notices.due_walks()], 0)

    async def _do(self, job: Job) -> None:
        """Deliver what is due for a walk, at the same time: a slow receiver does not hold up the others."""
        try:
            due = await self._notices.due(job.walk_id)
        except Unavailable as unavailable:
            raise RetryLater(str(unavailable), NOTICE_CHECK_S) from unavailable
        async with task_group() as tasks:
            for notice in due:
                tasks.start_soon(self._deliver, notice)

    async def _deliver(self, notice: Notice) -> None:
        """Deliver a notice, and record what became of it, however long the catalogue is unavailable."""
        told = {"notice": notice.id, "kind": notice.kind, "walk": notice.walk_id}
        try:
            await self._send(notice)
        except NotDelivered as error:
            failures = notice.tries + 1
            if error.final or failures >= MAX_DELIVERIES:
                log.warning("notice given up", reason=str(error), tries=failures, **told)
                await self._record(partial(self._notices.forget, notice))
                return
            until = datetime.now(UTC) + timedelta(seconds=pause_s(failures, self._first_pause_s))
            log.warning("notice not delivered, it will be retried", reason=str(error), tries=failures, **told)
            await self._record(partial(self._notices.postpone, notice, until))
            return
        await self._record(partial(self._notices.forget, notice))
        log.info("notice delivered", **told)

    async def _send(self, notice: Notice) -> None:
        expires = datetime.now(UTC) + LINK_VALID if notice.private else None
        link = f"?link={self._make_link(notice.walk_id, notice.walk_number, expires)}" if expires else ""
        if notice.kind is NoticeKind.WEBHOOK:
            await self._webhooks.call(notice, f"{self._public_url}/api/v1/walks/{notice.walk_id}{link}")
        elif self._mail:
            letters, smtp = self._mail
            message = letters.write(notice, f"{self._public_url}/walks/{notice.walk_id}{link}", expires)
            await smtp.send(message, letters.sender, notice.target)
        else:
            raise NotDelivered("no SMTP server is set")

    async def _record(self, act: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope(shield=True):
            await retry_forever(act, Unavailable, first_s=NOTICE_CHECK_S, longest_s=LONGEST_NOTICE_PAUSE_S)


def _log_failed_check(error: Exception) -> None:
    """Outages are logged once, by outages.py."""
    if not isinstance(error, Unavailable):
        log.error("notices could not be checked, it will be retried", exc_info=error)
