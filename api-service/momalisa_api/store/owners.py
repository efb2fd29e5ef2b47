"""Owners, identified by an API key or a signed cookie. Keys are stored as hashes, and the secret in the catalogue."""

import hashlib
import secrets as dice
from datetime import UTC, datetime

from itsdangerous import BadSignature, Signer
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.problems import UnknownKey
from momalisa_api.store.engine import insert_into, reading, transaction
from momalisa_api.store.tables import keys, secrets

ANONYMOUS = "anonymous"
KEY_OWNER = "key:"
FOR_COOKIES = "cookies"


class Owners:
    """Identifies owners, in the same way in every process of a deployment."""

    def __init__(self, engine: AsyncEngine, secret: str) -> None:
        self._engine = engine
        self._signer = Signer(secret, salt="momalisa owner", digest_method=hashlib.sha256)

    def new_cookie(self) -> str:
        """A cookie for a new owner."""
        return self._signer.sign(dice.token_hex(12)).decode()

    def of_cookie(self, cookie: str) -> str | None:
        """The owner of a cookie; None if the signature is wrong."""
        try:
            return f"cookie:{self._signer.unsign(cookie).decode()}"
        except BadSignature:
            return None

    async def of_key(self, key: str) -> str:
        """The owner of an API key. Raises UnknownKey, CatalogueUnavailable."""
        async with reading(self._engine) as connection:
            name = await connection.scalar(select(keys.c.name).where(keys.c.digest == _digest(key)))
        if name is None:
            raise UnknownKey("This API key does not exist. An operator creates one with `momalisa keys add NAME`.")
        return f"{KEY_OWNER}{name}"


async def read_secret(engine: AsyncEngine) -> str:
    """The secret that signs cookies, created by the first process that needs it."""
    async with transaction(engine) as connection:
        fresh = {"name": FOR_COOKIES, "value": dice.token_hex(32)}
        await connection.execute(insert_into(engine, secrets).values(fresh).on_conflict_do_nothing())
        secret = await connection.scalar(select(secrets.c.value).where(secrets.c.name == FOR_COOKIES))
    return str(secret)


async def add_key(engine: AsyncEngine, name: str) -> str:
    """Create an API key and return it; only its hash is stored. Raises ValueError if the name exists."""
    key = f"momalisa_{dice.token_urlsafe(32)}"
    row = {"name": name, "digest": _digest(key), "made_at": datetime.now(UTC)}
    try:
        async with transaction(engine) as connection:
            await connection.execute(insert(keys).values(row))
    except IntegrityError:
        raise ValueError(f"a key named {name!r} exists already; remove it first, or choose another name") from None
    return key


async def remove_key(engine: AsyncEngine, name: str) -> bool:
    """Delete an API key. Returns whether it existed."""
    async with transaction(engine) as connection:
        removed = await connection.execute(delete(keys).where(keys.c.name == name))
    return removed.rowcount == 1


def _digest(key: str) -> str:
    """The stored form of a key. Keys are long and random, so a hash without salt is safe, and can be looked up."""
    return hashlib.sha256(key.encode()).hexdigest()
