"""What the routes of pictures and of clips have in common: bodies, addresses in JSON, and files of one owner."""

import json
from typing import Any, ClassVar, Final, TypeVar, get_args

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

from momalisa_api.pictures.multipart import NoFile, boundary_of
from momalisa_api.problems import (
    AddressRefused,
    BodyTooLarge,
    BucketUnavailable,
    CatalogueUnavailable,
    FetchFailed,
    Gone,
    Invalid,
    Problem,
    QueueFull,
    QuotaExceeded,
    SignInRequired,
    UnknownKey,
    UploadTooSlow,
)
from momalisa_api.store.bucket import Bucket
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.conditions import Conditions
from momalisa_api.web.routes.media import stored
from momalisa_api.web.upload_intake import UploadIntake

MAX_ADDRESS_BODY: Final = 8192
# A deleted file must not come from a cache, and another visitor of the same browser must not see it.
OWNERS_CACHE: Final = "private, no-cache"
BYTES: Final = {"schema": {"type": "string", "format": "binary"}}

T = TypeVar("T")


class UploadAddress(BaseModel):
    """Where a file is to be fetched."""

    model_config = ConfigDict(extra="forbid")
    EXAMPLE: ClassVar = {"url": "https://example.com/cat.jpg"}

    url: str = Field(
        description="An http or https address on the public internet.",
        examples=["https://example.com/cat.jpg"],
        min_length=1,
        max_length=4000,
    )


def body_with(field: str, *addresses: type[BaseModel]) -> dict[str, Any]:
    """The request body in the OpenAPI document. field: of the form that contains the file.

    addresses: what a JSON body can be beside a URL.
    """
    kinds: tuple[type[BaseModel], ...] = (UploadAddress, *addresses)
    named = [kind.model_json_schema() for kind in kinds]
    form = {
        "type": "object",
        "description": "A form with the file.",
        "required": [field],
        "properties": {field: {**BYTES["schema"], "description": "The file."}},
    }
    return {
        "requestBody": {
            "required": True,
            "description": "The file as it is, with any Content-Type; or a form with the file; or a URL.",
            "content": {
                "application/octet-stream": BYTES,
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": {"anyOf": named} if addresses else named[0]},
            },
        }
    }


def responses_to_upload(noun: str, bad: type[Problem], *others: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The responses in the OpenAPI document. noun: such as picture; bad: the problem of a file that is none.

    others: what else can be raised.
    """
    location = {"description": f"URL of the {noun}.", "schema": {"type": "string"}}
    problems = documented(
        UnknownKey,
        SignInRequired,
        UploadTooSlow,
        BodyTooLarge,
        bad,
        AddressRefused,
        FetchFailed,
        Invalid,
        QuotaExceeded,
        QueueFull,
        BucketUnavailable,
        CatalogueUnavailable,
        *others,
    )
    return {201: {"headers": {"Location": location}}, **problems}


async def take(request: Request, intake: UploadIntake[T], owner: str, network: str) -> T:
    """Store the file in a request, or behind the URL in it. Raises what the intake raises, Invalid, BodyTooLarge."""
    kind = intake.kind
    if int(request.headers.get("content-length", "0")) > 2 * kind.max_bytes:
        raise kind.too_large
    if is_json(request):
        return await intake.fetch((await address_in(request, UploadAddress)).url, owner, network)
    try:
        return await intake.receive(request.stream(), owner, network, boundary_of(_type_of(request)))
    except NoFile as error:
        raise kind.bad(str(error)) from error
    except ClientDisconnect as error:
        raise kind.bad(f"The upload broke off. Send the {kind.noun} again.") from error


async def owners_file(
    bucket: Bucket, key: str, media_type: str, name: str, conditions: Conditions, missing: Problem
) -> Response:
    """The response with an uploaded file, or a range of it. missing: raised if the file is gone."""
    try:
        answer = await stored(bucket, key, media_type, name, conditions, OWNERS_CACHE)
    except Gone:
        raise missing from None
    answer.headers["Vary"] = "Cookie, Authorization"
    return answer


def is_json(request: Request) -> bool:
    """Whether a request's body says where the file is."""
    return _type_of(request).partition(";")[0].strip().lower() == "application/json"


async def address_in(request: Request, kind: Any) -> Any:
    """The address in a JSON body. kind: its class, or a union of some. Raises Invalid, BodyTooLarge."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_ADDRESS_BODY:
            raise BodyTooLarge(f"A JSON body can have {MAX_ADDRESS_BODY:,} bytes here. Send a shorter address.")
    try:
        return TypeAdapter(kind).validate_json(body)
    except ValidationError as error:
        examples = " or ".join(json.dumps(each.EXAMPLE) for each in get_args(kind) or (kind,))
        raise Invalid(f"The JSON body must be like {examples}.") from error


def _type_of(request: Request) -> str:
    return request.headers.get("content-type", "")
