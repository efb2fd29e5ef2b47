"""Everything of one owner as entries of a ZIP archive: films, requests as JSON, pictures, and a page that lists them.

Files stay in the bucket until they are sent.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from html import escape
from typing import Final

from momalisa_api.films.archive import ENTRIES_AHEAD
from momalisa_api.films.read_ahead import read_ahead
from momalisa_api.store.belongings import Belongings
from momalisa_api.store.bucket import Bucket, NotInBucket, StoredObject
from momalisa_api.store.clips import ClipStore, StoredClip
from momalisa_api.store.pictures import PictureStore, StoredPicture
from momalisa_api.walks.extras import extra_key
from momalisa_api.walks.walk import Walk

_HEAD: Final = (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>My walks and pictures</title>\n'
    "<h1>My walks and pictures</h1>\n"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the archive. source: its bytes, or where they are."""

    name: str
    source: bytes | StoredObject

    @property
    def size(self) -> int:
        """In bytes."""
        return self.source.size if isinstance(self.source, StoredObject) else len(self.source)

    @property
    def version(self) -> str:
        """Another one for other bytes."""
        return self.source.version if isinstance(self.source, StoredObject) else self.source.decode()


async def entries_of(
    owner: str, belongings: Belongings, pictures: PictureStore, clips: ClipStore, bucket: Bucket
) -> list[Entry]:
    """The files of an owner's archive, the page that lists them first. Raises Unavailable."""
    files, items = list[Entry](), list[str]()
    async for title, found in _all_of(owner, belongings, pictures, clips, bucket):
        files += found
        items.append(_item(title, [entry.name for entry in found]))
    page = f"{_HEAD}<ul>\n{''.join(items)}</ul>\n" if items else f"{_HEAD}<p>There is nothing here.</p>\n"
    return [Entry("index.html", page.encode()), *files]


async def _all_of(
    owner: str, belongings: Belongings, pictures: PictureStore, clips: ClipStore, bucket: Bucket
) -> AsyncIterator[tuple[str, list[Entry]]]:
    """What an owner has: a title and files of each."""
    walks = [found async for found in belongings.walks(owner)]

    async def films_of(number: int) -> dict[str, StoredObject]:
        return await bucket.listed(f"walks/{walks[number][0].id}/")

    async with aclosing(read_ahead(films_of, range(len(walks)), ENTRIES_AHEAD)) as stored:
        for walk, listed in walks:
            objects = await anext(stored)
            keys = [f"walks/{walk.id}/{name}" for name in sorted(walk.films_ready)]
            films = [Entry(key, objects[key]) for key in keys if key in objects]
            for name in walk.extras_ready:
                with suppress(NotInBucket):
                    found = await bucket.look(extra_key(walk.recipes[0], name))
                    films.append(Entry(f"walks/{walk.id}/{name}", found))
            title = f"{walk.created_at:%Y-%m-%d}: {walk.spec.title} ({walk.state})"
            yield title, [Entry(f"walks/{walk.id}/walk.json", _facts(walk, listed)), *films]
    uploads: list[tuple[str, str, StoredPicture | StoredClip]]
    uploads = [("a picture", f"pictures/{one.id}.png", one) for one in await pictures.of_owner(owner)]
    uploads += [("a clip", f"clips/{one.id}.{one.ending}", one) for one in await clips.of_owner(owner)]
    for title, name, upload in uploads:
        with suppress(NotInBucket):
            yield f"{upload.created_at:%Y-%m-%d}: {title}", [Entry(name, await bucket.look(upload.key))]


def reader_of(entries: list[Entry], bucket: Bucket) -> Callable[[int], Awaitable[bytes]]:
    """Reads the bytes of entries by their number. What it returns raises NotInBucket for a file that has gone."""

    async def read(number: int) -> bytes:
        source = entries[number].source
        if isinstance(source, bytes):
            return source
        content = b"".join([chunk async for chunk in bucket.stream(source, 0, source.size - 1)])
        if len(content) != source.size:
            raise NotInBucket(source.key)
        return content

    return read


def _facts(walk: Walk, listed: bool) -> bytes:
    """What is stored about a walk for its owner, as JSON."""
    facts = {
        "id": walk.id,
        "created_at": walk.created_at.isoformat(),
        "state": walk.state,
        "listed": listed,
        "seed": walk.seed,
        "warnings": walk.warnings,
        "error": walk.error,
        "spec": walk.spec.model_dump(mode="json"),
    }
    return json.dumps(facts, indent=2, ensure_ascii=False).encode()


def _item(title: str, names: list[str]) -> str:
    links = ", ".join(f'<a href="{escape(name)}">{escape(name.rpartition("/")[2])}</a>' for name in names)
    return f"<li>{escape(title)}: {links}</li>\n"
