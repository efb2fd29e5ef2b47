"""Every limit that a service enforces stands in its OpenAPI document: what is valid by the document is accepted.

But for those of a model, which its card has: a document has the widest that the contract allows.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter
from schemathesis import GenerationMode

from momalisa_api.app import create_app as create_api
from momalisa_api.problems import Invalid
from momalisa_api.settings import Settings as ApiSettings
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.web.between_spec import complete
from momalisa_api.web.kind_request import WAYS, KindRequest, StyleOptions, WalkBody
from momalisa_api.web.kind_spec import OF_DIFFUSION, Uploads, complete_kind
from momalisa_api.web.request import WalkQuery, WalkRequest
from momalisa_api.web.stop_request import PictureRequest
from momalisa_model.app import create_app as create_model
from momalisa_model.settings import Settings as ModelSettings
from momalisa_model.wire import ModelCard as CardOfReplicas
from momalisa_model.wire import RenderRequest
from tests.support.factories import CARD, write_card
from tests.support.kinds import STORED_CLIP

# A card with all that the model contract allows.
WIDEST = {**CARD, "min_size": 8, "max_size": 8192, "size_multiple": 1, "max_steps": 1000}
PICTURE = 10**6, 10**6
generated = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def api(tmp_path: Path) -> ApiSettings:
    """Limits that are not the defaults: the document must have those of its own server."""
    return ApiSettings(
        model_card=write_card(tmp_path), bucket=str(tmp_path), max_stops=3, max_frames=30, max_prompt_chars=20
    )


def cases(document: dict[str, Any], path: str, method: str) -> Any:
    return schemathesis.openapi.from_dict(document)[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE)


def check_kind(request: KindRequest, api: ApiSettings) -> None:
    """Complete a request of another kind. A schema knows neither a picture's size nor which settings go together."""
    used = [part for name in ("picture", "style_picture") if (part := getattr(request, name, None))]
    assume(not any(part.crop and not part.crop.is_inside(*PICTURE) for part in used))
    if isinstance(request, StyleOptions):
        assume(request.prompt is not None or all(getattr(request, name) is None for name in OF_DIFFUSION))
    styles = [{"name": style, "title": "x"}] if (style := getattr(request, "style", None)) else []
    card = ModelCard.model_validate({**WIDEST, "styles": styles})
    complete_kind(request, card, api, Uploads({part.picture: PICTURE for part in used}, STORED_CLIP))


def with_one_style(sent: dict[str, Any]) -> dict[str, Any]:
    """As for stops: generators of clients do not understand this in JSON Schema."""
    ways = [way for way in WAYS if sent.get(way) is not None]
    assume(ways or sent.get("kind") not in ("restyle", "clip"))
    return {name: value for name, value in sent.items() if name not in ways[1:]}


def check_stops(request: WalkQuery | WalkRequest, api: ApiSettings) -> None:
    """Complete a request. JSON Schema cannot say that a walk has a frame for each stop."""
    stops = request.named_stops
    assume(request.frames >= len(stops))
    used = [stop for stop in stops if isinstance(stop, PictureRequest)]
    # Nor does a schema know the size of a picture, and only walks with one have a strength.
    assume(not any(stop.crop and not stop.crop.is_inside(*PICTURE) for stop in used))
    assume(used or isinstance(request, WalkQuery) or request.strength is None)
    card = ModelCard.model_validate({**WIDEST, "schedulers": [request.scheduler or WIDEST["scheduler"]]})
    complete(request, stops, card, api, {stop.picture: PICTURE for stop in used})


def accept(sent: dict[str, Any], api: ApiSettings) -> None:
    request = WalkRequest.model_validate(sent)
    complete(request, request.named_stops, ModelCard.model_validate(CARD), api)


def with_one_way_of_naming_stops(sent: dict[str, Any], stops: str) -> dict[str, Any]:
    """JSON Schema could say this, but generators of clients do not understand it."""
    if sent.get(stops):
        return {name: value for name, value in sent.items() if name not in ("start", "end")}
    assume(sent.get("start") is not None and sent.get("end") is not None)
    return sent


def test_a_walk_that_is_valid_by_the_document_is_accepted(api):
    """Also at every limit: generators try the largest and smallest values."""

    @generated
    @given(cases(create_api(api).openapi(), "/api/v1/walks", "POST"))
    def hold(case: schemathesis.Case) -> None:
        if case.body.get("kind", "between") == "between":
            check_stops(WalkRequest.model_validate(with_one_way_of_naming_stops(case.body, "stops")), api)
        else:
            check_kind(TypeAdapter(WalkBody).validate_python(with_one_style(case.body)), api)

    hold()


def test_a_get_that_is_valid_by_the_document_is_accepted(api):
    """The parameters of a query have the same limits."""

    @generated
    @given(cases(create_api(api).openapi(), "/api/v1/walk", "GET"))
    def hold(case: schemathesis.Case) -> None:
        check_stops(WalkQuery.model_validate(with_one_way_of_naming_stops(case.query, "stop")), api)

    hold()


def test_the_widest_limits_of_a_card_are_those_of_the_document(api):
    """A walk that a model could render must be valid by the document."""
    CardOfReplicas.model_validate_json(json.dumps(WIDEST))
    for field, beyond in (("min_size", 7), ("max_size", 8193), ("max_steps", 1001)):
        with pytest.raises(ValueError, match=field):
            CardOfReplicas.model_validate_json(json.dumps({**WIDEST, field: beyond}))
    fields = create_api(api).openapi()["components"]["schemas"]["WalkRequest"]["properties"]
    [width, _], [steps, _] = fields["width"]["anyOf"], fields["steps"]["anyOf"]
    assert (width["minimum"], width["maximum"], steps["maximum"]) == (8, 8192, 1000)


def test_a_shard_that_is_valid_by_the_document_is_accepted():
    """Only the limits of the model's card are not in the document: the model may not be loaded yet."""
    document = create_model(ModelSettings(max_fractions=7)).openapi()
    schemas = document["components"]["schemas"]
    # JSON Schema cannot say that one way of restyling excludes the others.
    schemas["RenderRequest"]["properties"]["recipe"] = {"$ref": "#/components/schemas/BetweenRecipe"}
    fields = schemas["BetweenRecipe"]["properties"]
    integers = {name for name, field in fields.items() if field.get("type") == "integer"}

    @generated
    @given(cases(document, "/v1/render", "POST"))
    def hold(case: schemathesis.Case) -> None:
        # To JSON Schema, 8.0 is an integer; to the replica it is not.
        recipe = {name: int(one) if name in integers else one for name, one in case.body["recipe"].items()}
        first, last = recipe.get("guidance_interval") or (0, 1)
        # JSON Schema cannot compare two numbers.
        recipe |= {"guidance_interval": None} if first >= last else {}
        sent = {**case.body, "recipe": recipe}
        assert len(RenderRequest.model_validate_json(json.dumps(sent)).fractions) <= 7

    hold()


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("width", [0, 7, 8193]),
        ("steps", [0, 1001]),
        ("model", ["", "x" * 501]),
        ("frames", [1, 31]),
        ("guidance_scale", [-0.1, 50.1]),
        ("seed", [-1, 2**32, "Auto"]),
        ("frame_ms", [19, 2001]),
        ("scheduler", ["", "x" * 101]),
        ("start", ["", " \n", "x" * 21, "nul\0"]),
        ("stops", [["a"], ["a"] * 4, ["a", ""], ["a", {}], ["a", {"picture": "a" * 64, "prompt": "x" * 21}]]),
        ("stops", [["a", {"picture": "a" * 63}], ["a", {"picture": "a" * 64, "crop": {"x": 0, "y": 0, "width": 1}}]]),
        ("strength", [0.09, 1.01, "most"]),
    ],
)
def test_what_is_refused_is_invalid_by_the_document(api, field, values):
    """The generator above may miss a limit. Here each value is just beyond one."""
    components = create_api(api).openapi()["components"]
    schema = components["schemas"]["WalkRequest"]["properties"][field] | {"components": components}
    others: dict[str, Any] = {} if field == "stops" else {"start": "a", "end": "b"}
    is_valid: Callable[[Any], bool] = Draft202012Validator(schema).is_valid
    for value in values:
        assert not is_valid(value), value
        with pytest.raises((Invalid, ValueError)):
            accept({**others, field: value}, api)
