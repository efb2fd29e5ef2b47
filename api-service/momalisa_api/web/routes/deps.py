"""What routes need, handed out by FastAPI one by one: each route names its own dependencies."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request

from momalisa_api.films.archive import Checksums
from momalisa_api.metrics import Metrics
from momalisa_api.settings import Settings
from momalisa_api.store.belongings import Belongings
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.clips import ClipStore
from momalisa_api.store.fair_queue import FairQueue
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.handover import Handover
from momalisa_api.store.models import ModelRegistry
from momalisa_api.store.networks import Networks
from momalisa_api.store.notices import Notices
from momalisa_api.store.owners import Owners
from momalisa_api.store.pictures import PictureStore
from momalisa_api.store.places import Places
from momalisa_api.store.workers import WorkerRegistry
from momalisa_api.walks.models import Models
from momalisa_api.web.blocklist import Blocklist
from momalisa_api.web.clip_intake import ClipIntake
from momalisa_api.web.deletion import Deletion
from momalisa_api.web.intake import Intake
from momalisa_api.web.links import Links, Scopes
from momalisa_api.web.live import LiveUpdates
from momalisa_api.web.middleware import HEADERS_ONLY
from momalisa_api.web.notice_intake import NoticeIntake
from momalisa_api.web.picture_intake import PictureIntake
from momalisa_api.web.readers import Readers
from momalisa_api.web.recent_walks import RecentWalks
from momalisa_api.web.sign_in import SignIn
from momalisa_api.web.turns import Turn, Turns

T = TypeVar("T")


def provide(app: FastAPI, parts: Mapping[type[Any], Any]) -> None:
    """Give the app the parts that its routes depend on, by type. Called once, by app.py."""
    app.state.parts = dict(parts)


def part(app: FastAPI, kind: type[T]) -> T | None:
    """A part of a running app; None before `provide`."""
    found: T | None = getattr(app.state, "parts", {}).get(kind)
    return found


def _dependency(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    # Async, although it awaits nothing: FastAPI runs other functions in a thread, one after another for each request.
    async def of_request(request: Request) -> T:
        found: T = request.app.state.parts[kind]
        return found

    return of_request


SettingsDep = Annotated[Settings, Depends(_dependency(Settings))]
RegistryDep = Annotated[ModelRegistry, Depends(_dependency(ModelRegistry))]
CatalogueDep = Annotated[Catalogue, Depends(_dependency(Catalogue))]
GalleryDep = Annotated[Gallery, Depends(_dependency(Gallery))]
FairQueueDep = Annotated[FairQueue, Depends(_dependency(FairQueue))]
TurnsDep = Annotated[Turns, Depends(_dependency(Turns))]
PlacesDep = Annotated[Places, Depends(_dependency(Places))]
WorkersDep = Annotated[WorkerRegistry, Depends(_dependency(WorkerRegistry))]
# The bucket has two implementations: Protocol classes serve as keys like any other type.
BucketDep = Annotated[Bucket, Depends(_dependency(Bucket))]
IntakeDep = Annotated[Intake, Depends(_dependency(Intake))]
PictureIntakeDep = Annotated[PictureIntake, Depends(_dependency(PictureIntake))]
ClipIntakeDep = Annotated[ClipIntake, Depends(_dependency(ClipIntake))]
ClipStoreDep = Annotated[ClipStore, Depends(_dependency(ClipStore))]
PictureStoreDep = Annotated[PictureStore, Depends(_dependency(PictureStore))]
NoticesDep = Annotated[Notices, Depends(_dependency(Notices))]
NoticeIntakeDep = Annotated[NoticeIntake, Depends(_dependency(NoticeIntake))]
LiveUpdatesDep = Annotated[LiveUpdates, Depends(_dependency(LiveUpdates))]
OwnersDep = Annotated[Owners, Depends(_dependency(Owners))]
SignInDep = Annotated[SignIn, Depends(_dependency(SignIn))]
HandoverDep = Annotated[Handover, Depends(_dependency(Handover))]
NetworksDep = Annotated[Networks, Depends(_dependency(Networks))]
MetricsDep = Annotated[Metrics, Depends(_dependency(Metrics))]
BlocklistDep = Annotated[Blocklist, Depends(_dependency(Blocklist))]


async def _models(registry: RegistryDep) -> Models:
    return await registry.current()


ModelsDep = Annotated[Models, Depends(_models)]

ChecksumsDep = Annotated[Checksums, Depends(_dependency(Checksums))]
BelongingsDep = Annotated[Belongings, Depends(_dependency(Belongings))]
DeletionDep = Annotated[Deletion, Depends(_dependency(Deletion))]
LinksDep = Annotated[Links, Depends(_dependency(Links))]
ScopesDep = Annotated[Scopes, Depends(_dependency(Scopes))]
ReadersDep = Annotated[Readers, Depends(_dependency(Readers))]
RecentWalksDep = Annotated[RecentWalks, Depends(_dependency(RecentWalks))]


async def _turn(turns: TurnsDep) -> AsyncIterator[Turn]:
    async with turns.take() as turn:
        yield turn


# The request waits for its turn, which ends before its answer is sent: streams take as long as their clients do.
IN_TURN = Depends(_turn, scope="function")
TurnDep = Annotated[Turn, IN_TURN]


async def _headers_only(request: Request) -> bool:
    return bool(request.scope.get(HEADERS_ONLY))


# Whether the request is a HEAD, which must start nothing and should read nothing.
HeadersOnly = Annotated[bool, Depends(_headers_only)]
