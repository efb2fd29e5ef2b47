"""Models and walks of pictures and clips for the gallery, as the API would describe them, without services for them."""

import copy
from typing import Any

from playwright.sync_api import Route

from tests.support.browser import Visitor

STYLES = [
    {"name": "stained-glass", "title": "Stained glass"},
    {"name": "woodcut", "title": "Woodcut"},
    {"name": "night-sky", "title": "Night sky"},
]
# What a model of each engine can make.
ENGINES = {"parallax": ["into"], "style": ["restyle", "clip"], "instances": ["apart"]}
SPECS: dict[str, dict[str, Any]] = {
    "into": {"motion": "circle", "amplitude": 0.5},
    "restyle": {"style": "stained-glass", "style_picture": None, "prompt": None},
    "clip": {"clip": "c1" * 32, "every": 1, "style": "woodcut", "style_picture": None, "prompt": None},
    "apart": {"threshold": 0.5, "most": 20},
}
EXTRAS = {
    "into": ["depth.png", "cutout.png"],
    "apart": ["instances.json", "instance-01.png", "instance-02.png"],
}


def offer_other_kinds(visitor: Visitor) -> None:
    """Add a model of each engine to those that the deployment has, of which the first can restyle, too."""
    offered = visitor.context.request.get(f"{visitor.url}/api/v1/models").json()
    offered["models"][0]["kinds"] = ["between", "restyle"]
    for engine, kinds in ENGINES.items():
        model = copy.deepcopy(offered["models"][0])
        model |= {"name": engine, "engine": engine, "kinds": kinds, "styles": STYLES if engine == "style" else []}
        model["card"]["model"] = model["card"]["about"]["title"] = engine
        model["card"]["about"]["limits"] = "It has seen painted scenes only."
        offered["models"].append(model)
    visitor.context.route("**/api/v1/models", lambda route: route.fulfill(json=offered))


def answer_requests(visitor: Visitor, walk: dict[str, Any]) -> list[dict[str, Any]]:
    """Accept every request as this walk, which is finished. Returns the list of the requests."""
    requests: list[dict[str, Any]] = []

    def answer(route: Route) -> None:
        if route.request.method != "POST":
            route.fallback()
            return
        requests.append(dict(route.request.post_data_json or {}))
        route.fulfill(json=walk, status=202)

    visitor.context.route("**/api/v1/walks", answer)
    show(visitor, walk)
    return requests


def show(visitor: Visitor, walk: dict[str, Any]) -> None:
    """Have the API know this finished walk, which the visitor has requested."""
    url = f"**/api/v1/walks/{walk['id']}"
    visitor.context.route(url, lambda route: route.fulfill(json=walk))
    visitor.context.route(f"{url}/request", lambda route: route.fulfill(json={"mine": True, "listed": False}))


def finished(kind: str, of: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A finished walk of a kind, with the id, frames and films of another finished walk."""
    spec: dict[str, Any] = {
        name: of["spec"][name] for name in ("width", "height", "frames", "frame_ms", "model", "revision")
    }
    crop = {"x": 0, "y": 0, "width": of["spec"]["width"], "height": of["spec"]["height"]}
    source: dict[str, Any] = {} if kind == "clip" else {"picture": {"picture": "5a" * 32, "crop": crop}}
    extras = [
        {"name": name, "url": f"{of['url']}/extras/{name}", "media_type": f"image/{name[-3:]}"}
        for name in EXTRAS.get(kind, [])
    ]
    spec |= {"kind": kind, "gif_there_and_back": False, "mp4_there_and_back": False, **source, **SPECS[kind]}
    changes = {"seed": None, "private": True, "smoothness": None} | changes
    return {**of, "kind": kind, "spec": spec, "extras": extras, **changes}
