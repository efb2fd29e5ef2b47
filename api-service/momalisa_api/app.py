"""Assembles the app from the settings: the one place that knows every part."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from sqlalchemy.ext.asyncio import AsyncEngine
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from momalisa_api import __version__
from momalisa_api.films.archive import Checksums
from momalisa_api.films.make import Sign
from momalisa_api.fleet.fleet import Fleet
from momalisa_api.fleet.proxies import proxies_of
from momalisa_api.fleet.replica import CONNECT_TIMEOUT_S
from momalisa_api.metrics import Metrics
from momalisa_api.pictures.decoders import Decoders, Remuxers
from momalisa_api.pictures.download import Downloads
from momalisa_api.pictures.pinned import PinnedClient
from momalisa_api.problems import BucketUnavailable
from momalisa_api.settings import Settings, StoreSettings
from momalisa_api.store.belongings import Belongings
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.clips import ClipStore
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.expiry import Expiry, Kept
from momalisa_api.store.fair_queue import FairQueue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.handover import Handover
from momalisa_api.store.mail_tokens import MailTokens
from momalisa_api.store.models import ModelRegistry
from momalisa_api.store.networks import Networks
from momalisa_api.store.notice_limits import NoticeBook
from momalisa_api.store.notices import Notices
from momalisa_api.store.notifications import Listener, WalkChanges
from momalisa_api.store.owners import Owners, read_secret
from momalisa_api.store.pictures import PictureStore
from momalisa_api.store.places import Places
from momalisa_api.store.progress import Progress
from momalisa_api.store.queue import Queue, open_queue
from momalisa_api.store.schema import opened
from momalisa_api.store.session_secrets import SessionSecrets
from momalisa_api.store.upload_limits import UploadCounter
from momalisa_api.store.workers import WorkerRegistry
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.models import ANY
from momalisa_api.web import openapi, problem_json
from momalisa_api.web.blocklist import Blocklist
from momalisa_api.web.clip_intake import ClipIntake
from momalisa_api.web.cross_site import NoCrossSiteChanges
from momalisa_api.web.deletion import Deletion
from momalisa_api.web.intake import Intake
from momalisa_api.web.links import Links, Scopes
from momalisa_api.web.live import LiveUpdates
from momalisa_api.web.middleware import BodyLimit, HeadAsGet, PrivateAnswers
from momalisa_api.web.notice_intake import NoticeIntake
from momalisa_api.web.picture_intake import PictureIntake
from momalisa_api.web.quotas import Quotas
from momalisa_api.web.readers import Readers
from momalisa_api.web.recent_walks import RecentWalks
from momalisa_api.web.request_limits import limits
from momalisa_api.web.routes import (
    clips,
    extras,
    gallery,
    health,
    links,
    mail_pages,
    me,
    media,
    models,
    notices,
    page_meta,
    pictures,
    sign_in,
    walks,
)
from momalisa_api.web.routes.deps import IN_TURN, provide
from momalisa_api.web.routes.events import events_for
from momalisa_api.web.routes.schemas import WalkViews
from momalisa_api.web.routes.static import ROBOTS, gallery_routes
from momalisa_api.web.sign_in import SignIn, sign_in_of
from momalisa_api.web.sign_in_issuer import ISSUER_TIMEOUT_S
from momalisa_api.web.sign_in_proxy import DirectPeer
from momalisa_api.web.turns import Turns
from momalisa_api.web.upload_folder import upload_folder
from momalisa_api.work.mail import Letters, Smtp
from momalisa_api.work.notices import Notifier
from momalisa_api.work.retention import Retention
from momalisa_api.work.studio import Studio
from momalisa_api.work.webhooks import WebhookCaller
from momalisa_api.work.worker import Worker

log = structlog.get_logger()

DOCS_PATH = "/api/docs"
MakeClient = Callable[..., httpx.AsyncClient]


def read_card(settings: StoreSettings) -> ModelCard | None:
    """Read the model card, if there is a file. Raises SystemExit, with what to do, if it is missing or wrong."""
    if not (path := settings.model_card):
        return None
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"No model card at {path}: {error}\nSet MOMALISA_MODEL_CARD to one (`momalisa-model card` prints a "
            "model's), or unset it: replicas bring their cards."
        ) from error


def registry_of(
    settings: StoreSettings, engine: AsyncEngine, card: ModelCard | None, kept_s: float = 0
) -> ModelRegistry:
    """The registry of models as the settings restrict it. card: of the file, if there is one; kept_s: see there."""
    return ModelRegistry(engine, settings.named_models or ((card.model,) if card else (ANY,)), card, kept_s)


def open_bucket(settings: StoreSettings) -> Bucket:
    """Open the configured bucket. Raises SystemExit, with what to do, if it is missing or access is denied."""
    if not settings.bucket.startswith("gs://"):
        return FolderBucket(Path(settings.bucket))
    # Imported here, as Google's library takes most of a second to import.
    from momalisa_api.store.gcs import GcsBucket, NoBucket

    name, _, prefix = settings.bucket.removeprefix("gs://").partition("/")
    try:
        bucket = GcsBucket(name, prefix)
        bucket.check()
    except NoBucket as error:
        raise SystemExit(f"{error}\nMOMALISA_BUCKET is {settings.bucket}; it can be a folder, too.") from error
    return bucket


def read_signer(settings: Settings) -> Sign | None:
    """What signs films, if there is a key. Raises SystemExit, with what to do, if it cannot be used."""
    key, certificate = settings.c2pa_key, settings.c2pa_certificate
    if not key or not certificate or settings.role == "web":
        return None
    try:
        from momalisa_api.films.content_credentials import Signer

        return Signer(key.read_bytes(), certificate.read_bytes()).sign
    except ImportError as error:
        raise SystemExit('MOMALISA_C2PA_KEY needs c2pa-python (pip install "momalisa-api[c2pa]").') from error
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"Films cannot be signed with {key} and {certificate}: {error}\nSet MOMALISA_C2PA_KEY to a private key in "
            "PEM without a password, and MOMALISA_C2PA_CERTIFICATE to its chain of certificates, or unset both."
        ) from error


def create_app(settings: Settings, make_client: MakeClient = httpx.AsyncClient) -> FastAPI:
    """Assemble the app. Nothing runs before its lifespan starts.

    make_client: makes the HTTP client that talks to replicas, from httpx's own arguments.
    """
    card = read_card(settings)
    blocklist = Blocklist.read(settings.blocklist)
    bucket = open_bucket(settings)
    sign = read_signer(settings)
    mounts = proxies_of(settings.replicas)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        timeout = httpx.Timeout(settings.shard_timeout_s, connect=CONNECT_TIMEOUT_S, pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with (
            aclosing(bucket),
            make_client(timeout=timeout, limits=limits, trust_env=False, mounts=mounts) as client,
            httpx.AsyncClient(timeout=ISSUER_TIMEOUT_S) as providers,
            opened(settings.database_url) as engine,
            open_queue(engine, (listener := Listener(engine)), settings.lease_s) as queue,
            upload_folder() as folder,
            aclosing(Decoders()) as decoders,
        ):
            await _report_unwritable(bucket, settings.bucket)
            secret = await read_secret(engine)
            owners, networks = Owners(engine, secret), Networks(secret)
            registry = registry_of(settings, engine, card, settings.refresh_s)
            await registry.start()
            metrics = Metrics()
            parts = _web_parts(settings, registry, blocklist, bucket, engine, queue, listener, metrics, owners)
            parts |= _upload_parts(settings, bucket, engine, folder, decoders)
            worker = None
            if settings.role != "web":
                shared = parts[Catalogue], parts[WorkerRegistry]
                worker = _make_worker(
                    settings, registry, card, bucket, client, engine, queue, listener, metrics, *shared, sign, folder
                )
            tokens, signed, scopes = MailTokens(secret), Links(secret), Scopes(secret)
            parts |= _notice_parts(settings, engine, tokens)
            # Workers know no visitors, and need no client secret.
            ways = SignIn() if settings.role == "worker" else sign_in_of(settings, SessionSecrets(engine), providers)
            parts |= {SignIn: ways, Networks: networks}
            parts |= {Links: signed, Scopes: scopes, Readers: Readers(parts[Gallery], signed)}
            parts |= {Deletion: Deletion(parts[Erasures], parts[PictureStore], parts[ClipStore], scopes)}
            provide(app, parts | ({Worker: worker} if worker else {}))
            async with anyio.create_task_group() as tasks:
                views = WalkViews(registry, parts[Places])
                tasks.start_soon(_run_or_stop, listener.run)
                tasks.start_soon(_run_or_stop, partial(parts[LiveUpdates].run, partial(events_for, views=views)))
                notifier = None
                if worker:
                    told = parts[Notices], parts[NoticeBook]
                    notifier = _make_notifier(settings, queue, listener, tokens, signed, *told)
                    tasks.start_soon(_run_or_stop, notifier.run)
                    tasks.start_soon(_run_or_stop, worker.run)
                    tasks.start_soon(_run_or_stop, _retention(settings, engine, bucket, parts).run)
                yield
                if worker and notifier:
                    worker.stop()
                    await worker.wait_stopped()
                    await notifier.wait_stopped()
                tasks.cancel_scope.cancel()

    app = FastAPIOffline(
        **openapi.ABOUT,
        version=__version__,
        docs_url=DOCS_PATH,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        static_url="/api/docs-assets",
        lifespan=lifespan,
    )
    _add_routes(app, settings)
    openapi.finish_document(app, limits(settings))
    return app


def _add_routes(app: FastAPI, settings: Settings) -> None:
    """Add middleware, error handlers and routes to the app."""
    # The innermost: it sees what routes write into the scope.
    app.add_middleware(PrivateAnswers)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, uploads=(pictures.PICTURES_PATH, clips.CLIPS_PATH))
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "HEAD"],
        allow_headers=["Prefer", "Range", "If-Range", "If-None-Match", "If-Modified-Since", "Last-Event-ID"],
        expose_headers=["Location", "Retry-After", "ETag", "Last-Modified", "Content-Range", "Content-Disposition"],
    )
    app.add_middleware(HeadAsGet)
    app.add_middleware(NoCrossSiteChanges)
    # As uvicorn does it by default. The last one added comes first.
    app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)
    app.add_middleware(DirectPeer)
    problem_json.install(app)
    if settings.role != "worker":
        # The order matters: /walks/{id}/frames.zip must not match /walks/{id}/{name}.
        for routes in (
            page_meta,
            walks,
            links,
            notices,
            mail_pages,
            gallery,
            models,
            media,
            extras,
            pictures,
            clips,
            me,
            sign_in,
        ):
            # Uploads have a line of their own, and the others cost little.
            turns = [IN_TURN] if routes in (walks, gallery) else []
            app.include_router(routes.router, prefix="/api/v1", dependencies=turns)
    app.include_router(health.router)
    if settings.role != "worker":
        _add_gallery(app, settings.gallery)
    problem_json.describe(app)


def _add_gallery(app: FastAPI, folder: Path | None) -> None:
    """Add the gallery, after all other routes. Without a gallery, / redirects to the API documentation."""
    if folder:
        app.include_router(gallery_routes(folder))
    else:
        app.add_route("/", lambda _: RedirectResponse(DOCS_PATH), include_in_schema=False)
        app.add_route("/robots.txt", lambda _: PlainTextResponse(ROBOTS), include_in_schema=False)


def _web_parts(
    settings: Settings,
    models: ModelRegistry,
    blocklist: Blocklist,
    bucket: Bucket,
    engine: AsyncEngine,
    queue: Queue,
    listener: Listener,
    metrics: Metrics,
    owners: Owners,
) -> dict[type[Any], Any]:
    """What the routes depend on, by type."""
    catalogue, fair_queue, workers = Catalogue(engine), FairQueue(engine), WorkerRegistry(engine)
    return {
        Settings: settings,
        ModelRegistry: models,
        Bucket: bucket,
        Catalogue: catalogue,
        RecentWalks: RecentWalks(catalogue),
        Checksums: Checksums(),
        Gallery: Gallery(engine),
        Erasures: Erasures(engine, bucket),
        Belongings: Belongings(engine),
        Handover: Handover(engine),
        FairQueue: fair_queue,
        WorkerRegistry: workers,
        Places: Places(fair_queue, workers),
        Turns: Turns(),
        Owners: owners,
        Metrics: metrics,
        Intake: Intake(models, catalogue, Quotas(settings), bucket, queue),
        LiveUpdates: LiveUpdates(catalogue, settings.live_poll_s, WalkChanges(listener)),
        Blocklist: blocklist,
    }


def _retention(settings: Settings, engine: AsyncEngine, bucket: Bucket, parts: Mapping[type[Any], Any]) -> Retention:
    days = settings.keep_walks_days, settings.keep_frames_days, settings.keep_films_days
    kept = Kept(*(None if limit is None else timedelta(days=limit) for limit in days))
    return Retention(
        {
            "expired walks removed": Expiry(engine, bucket, parts[Erasures], kept).remove_due,
            "deleted walks swept": parts[Erasures].sweep,
            "old charges deleted": parts[Catalogue].delete_old_charges,
            "old records of uploads deleted": parts[UploadCounter].delete_old,
            "expired pictures deleted": parts[PictureStore].delete_expired,
            "expired clips deleted": parts[ClipStore].delete_expired,
        }
    )


def _upload_parts(
    settings: Settings, bucket: Bucket, engine: AsyncEngine, folder: Path, decoders: Decoders
) -> dict[type[Any], Any]:
    """What the routes of uploads depend on, by type. folder: for uploads while they are received."""
    kept, downloads = timedelta(hours=settings.keep_uploads_h), Downloads(settings.named_fetch_ports)
    pictures, clips = PictureStore(engine, bucket, kept), ClipStore(engine, bucket, kept)
    counted = UploadCounter(engine)
    return {
        UploadCounter: counted,
        PictureStore: pictures,
        PictureIntake: PictureIntake(settings, pictures, counted, decoders, downloads, folder),
        ClipStore: clips,
        ClipIntake: ClipIntake(settings, clips, counted, Remuxers(), downloads, folder),
    }


def _make_worker(
    settings: Settings,
    models: ModelRegistry,
    card: ModelCard | None,
    bucket: Bucket,
    client: httpx.AsyncClient,
    engine: AsyncEngine,
    queue: Queue,
    listener: Listener,
    metrics: Metrics,
    catalogue: Catalogue,
    registry: WorkerRegistry,
    sign: Sign | None,
    folder: Path,
) -> Worker:
    progress = Progress(engine)
    fleet = Fleet(
        settings.replicas,
        client,
        models,
        metrics,
        refresh_s=settings.refresh_s,
        shard_tries=settings.shard_tries,
        backups=settings.backup_shards,
        endpoint_card=card,
    )
    return Worker(
        Studio(models, catalogue, progress, bucket, queue, fleet, sign, folder),
        catalogue,
        progress,
        registry,
        models,
        queue,
        fleet,
        metrics,
        WalkChanges(listener),
        max_shards_in_flight=settings.max_shards_in_flight,
        reconcile_s=settings.reconcile_s,
        poll_s=settings.live_poll_s,
    )


def _notice_parts(settings: Settings, engine: AsyncEngine, tokens: MailTokens) -> dict[type[Any], Any]:
    """What accepts requests for mails and webhooks, by type."""
    book = NoticeBook(engine, settings.notices_per_owner_per_day, settings.owners_per_network)
    return {Notices: Notices(engine), NoticeBook: book, NoticeIntake: NoticeIntake(settings, book, tokens)}


def _make_notifier(
    settings: Settings,
    queue: Queue,
    listener: Listener,
    tokens: MailTokens,
    links: Links,
    notices: Notices,
    book: NoticeBook,
) -> Notifier:
    return Notifier(
        notices,
        book,
        queue,
        WalkChanges(listener),
        WebhookCaller(PinnedClient(settings.named_webhook_ports)),
        (Letters(settings, tokens), Smtp(settings)) if settings.sends_mail else None,
        public_url=settings.public_url or "",
        make_link=links.token,
        poll_s=settings.reconcile_s,
    )


async def _report_unwritable(bucket: Bucket, place: str) -> None:
    """Log a bucket that cannot be written. The process still serves what is stored, and works once it can be."""
    try:
        await bucket.check_writable()
    except BucketUnavailable as error:
        log.error("bucket cannot be written", bucket=place, advice=str(error))


async def _run_or_stop(run: Callable[[], Awaitable[None]]) -> None:
    """Run a task, and end the process if it fails: a process that cannot render must not accept walks."""
    try:
        await run()
    except Exception:
        log.exception("background task failed, shutting down")
        signal.raise_signal(signal.SIGTERM)
