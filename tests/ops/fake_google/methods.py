"""What the calls of the made-up Google do, as far as the playbooks make them."""

import base64
import re
from collections.abc import Callable
from typing import Any

Things = dict[str, Any]
Act = Callable[[], Any]
LINK = "https://www.googleapis.com/compute/v1/"
# What cannot be without that which stands above it.
CHILDREN = ("nodePools", "databases", "users", "certificateMapEntries")


def place(request: Any) -> str:
    """The path of what a request is about."""
    if request.call.id.endswith(("versions.access", "versions.get")):
        return request.path.removesuffix(":access")
    if request.method in ("GET", "DELETE", "PATCH"):
        return request.path
    if request.method == "PUT" or request.call.id.endswith(tuple(VERBS)):
        return re.sub(r":\w+$|/(resize|setTarget)$", "", request.path)
    return f"{request.path.removesuffix(':upload')}/{_id(request)}"


def action(request: Any, things: Things) -> Act | str:
    """What is to be done; or why not: gone, there, used."""
    path, verb = place(request), request.call.id.rpartition(".")[2]
    if request.call.id.endswith("secrets.addVersion"):
        return lambda: _add_version(things, path, request.body)
    named = next((act for name, act in VERBS.items() if request.call.id.endswith(name)), None)
    if named:
        return (lambda: named(things[path], request.body)) if path in things else "gone"
    if request.method == "DELETE":
        return _deletion(things, path)
    if request.method == "PATCH":
        return (lambda: things[path].update(request.body)) if path in things else "gone"
    assert verb in ("create", "insert", "upload"), request.call.id
    above, kind = path.rsplit("/", 2)[:2]
    if path in things or (kind in CHILDREN and above not in things):
        return "there" if path in things else "gone"
    return lambda: _create(things, path, request)


def operation(request: Any, number: int) -> dict[str, Any]:
    """The beginning of an operation, in the way of the API that it is of."""
    name = f"operation-{number}"
    scope = re.match(r"(?:\w+/)?v1/projects/[^/]+(?:/(?:locations|zones|regions)/[^/]+|/global)?", request.path)
    home = scope[0] if scope else "v1"
    if request.service == "container":
        link = f"https://container.googleapis.com/{home}/operations/{name}"
        return {"name": name, "operationType": "SOME", "status": "RUNNING", "selfLink": link}
    if request.service == "compute":
        link = f"https://www.googleapis.com/{home}/operations/{name}"
        return {"kind": "compute#operation", "name": name, "status": "RUNNING", "selfLink": link}
    if request.service == "sqladmin":
        link = f"https://sqladmin.googleapis.com/{home}/operations/{name}"
        return {"kind": "sql#operation", "name": name, "status": "PENDING", "selfLink": link}
    if request.service == "serviceusage":
        return {"name": f"operations/{name}"}
    return {"name": f"{home.partition('/')[2]}/operations/{name}"}


def born_with(request: Any, things: Things, project: str) -> None:
    """Put there what every project has."""
    if request.service == "serviceusage":
        things.setdefault(request.path, {"name": request.path[3:], "state": "DISABLED"})
    if request.path == f"v3/projects/{project}":
        things.setdefault(request.path, {"name": "projects/123456789", "projectId": project, "state": "ACTIVE"})


def seen(request: Any, path: str, thing: Any) -> Any:
    """A resource with what Google adds to it."""
    kind = path.rsplit("/", 2)[-2] if "/" in path else ""
    if request.call.id.endswith("versions.access"):
        return {"name": path, "payload": thing.get("payload", {})}
    if kind == "versions":
        return {"name": path, "state": "ENABLED"}
    if request.service == "compute":
        thing = _linked(thing) | {"selfLink": LINK.removesuffix("compute/v1/") + path, "status": "READY"}
    return thing | {name: make(path) for (*of, name), make in ADDED.items() if of == [request.service, kind]}


def _id(request: Any) -> str:
    for name, value in request.query.items():
        if name.endswith("Id"):
            return value
    body = request.body
    if request.call.id == "iam.projects.serviceAccounts.create":
        return f"{body['accountId']}@{request.path.split('/')[2]}.iam.gserviceaccount.com"
    inner = body.get("cluster") or body.get("nodePool") or body
    return str(body.get("modelId") or inner["name"]).rpartition("/")[2]


def _create(things: Things, path: str, request: Any) -> None:
    body = dict(request.body)
    for wrapper in ("cluster", "nodePool", "serviceAccount", "model"):
        if isinstance(body.get(wrapper), dict):
            body = dict(body[wrapper])
    for pool in body.get("nodePools", []):
        things[f"{path}/nodePools/{pool['name']}"] = dict(pool)
    things[path] = body


def _deletion(things: Things, path: str) -> Act | str:
    if path not in things:
        return "gone"
    name = path.partition("projects/")[2]
    if "/networks/" in path and any(name in repr(each) for other, each in things.items() if other != path):
        return "used"
    if things[path].get("deployedModels"):
        return "used"

    def act() -> None:
        for each in [each for each in things if each == path or each.startswith(path + "/")]:
            del things[each]

    return act


def _add_version(things: Things, secret: str, body: Any) -> None:
    base64.b64decode(body["payload"]["data"], validate=True)
    things[f"{secret}/versions/latest"] = body


def _update_cluster(cluster: Things, body: Any) -> None:
    ((name, value),) = body["update"].items()
    field = name.removeprefix("desired")
    cluster[field[0].lower() + field[1:]] = value


def _deploy(endpoint: Things, body: Any) -> None:
    deployed = endpoint.setdefault("deployedModels", [])
    deployed.append(body["deployedModel"] | {"id": str(len(deployed) + 1)})


def _undeploy(endpoint: Things, body: Any) -> None:
    endpoint["deployedModels"] = [each for each in endpoint["deployedModels"] if each["id"] != body["deployedModelId"]]


def _linked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _linked(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_linked(each) for each in value]
    if isinstance(value, str) and re.match(r"(projects|zones|regions|global)/", value):
        return LINK + (value if value.startswith("projects/") else f"projects/p/{value}")
    return value


VERBS: dict[str, Callable[[Things, Any], Any]] = {
    "secrets.addVersion": _add_version,  # type: ignore[dict-item]
    "services.enable": lambda thing, body: thing.update(state="ENABLED"),
    "clusters.update": _update_cluster,
    "nodePools.update": lambda thing, body: thing.update(body),
    "nodePools.setAutoscaling": lambda thing, body: thing.update(body),
    "nodePools.setManagement": lambda thing, body: thing.update(body),
    "disks.resize": lambda thing, body: thing.update(body),
    "forwardingRules.setTarget": lambda thing, body: thing.update(body),
    "endpoints.deployModel": _deploy,
    "endpoints.undeployModel": _undeploy,
    "endpoints.update": lambda thing, body: thing.update(body["endpoint"]),
}
ADDED: dict[tuple[str, str, str], Callable[[str], Any]] = {
    ("container", "clusters", "endpoint"): lambda path: "192.0.2.10",
    ("container", "clusters", "masterAuth"): lambda path: {"clusterCaCertificate": "bWFkZSB1cA=="},
    ("container", "clusters", "network"): lambda path: "momalisa",
    ("container", "clusters", "status"): lambda path: "RUNNING",
    ("compute", "addresses", "address"): lambda path: "10.0.0.9" if path.endswith("-database") else "192.0.2.20",
    ("sqladmin", "instances", "pscServiceAttachmentLink"): lambda path: "projects/t/regions/r/serviceAttachments/a",
    ("aiplatform", "endpoints", "dedicatedEndpointDns"): lambda path: "e.prediction.vertexai.goog",
    ("storage", "b", "location"): lambda path: "US-CENTRAL1",
    ("artifactregistry", "repositories", "name"): lambda path: path[3:],
}
