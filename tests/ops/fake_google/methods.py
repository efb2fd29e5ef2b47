"""What the methods of the fake Google Cloud API do. It implements those that the playbooks call."""

import base64
import re
from collections.abc import Callable
from typing import Any

Resources = dict[str, Any]
Action = Callable[[], Any]
LINK = "https://www.googleapis.com/compute/v1/"
# Kinds of resources that cannot exist without their parent.
CHILDREN = ("nodePools", "databases", "users", "certificateMapEntries")


def target_path(call: Any) -> str:
    """The path of the resource that a call is about."""
    if call.id.endswith(("versions.access", "versions.get")):
        return call.path.removesuffix(":access")
    if call.method in ("GET", "DELETE", "PATCH"):
        return call.path
    if call.method == "PUT" or call.id.endswith(tuple(VERBS)):
        return re.sub(r":\w+$|/(resize|setTarget)$", "", call.path)
    return f"{call.path.removesuffix(':upload')}/{_id(call)}"


def action(call: Any, resources: Resources) -> Action | str:
    """The change that a call makes, or why it is impossible: missing, exists, in use."""
    path, verb = target_path(call), call.id.rpartition(".")[2]
    if call.id.endswith("secrets.addVersion"):
        return lambda: _add_version(resources, path, call.body)
    named = next((act for name, act in VERBS.items() if call.id.endswith(name)), None)
    if named:
        return (lambda: named(resources[path], call.body)) if path in resources else "missing"
    if call.method == "DELETE":
        return _deletion(resources, path)
    if call.method == "PATCH":
        return (lambda: resources[path].update(call.body)) if path in resources else "missing"
    assert verb in ("create", "insert", "upload"), call.id
    above, kind = path.rsplit("/", 2)[:2]
    if path in resources or (kind in CHILDREN and above not in resources):
        return "exists" if path in resources else "missing"
    return lambda: _create(resources, path, call)


def operation(call: Any, number: int) -> dict[str, Any]:
    """A new long-running operation, in the format of the API that starts it."""
    name = f"operation-{number}"
    scope = re.match(r"(?:\w+/)?v[12]/projects/[^/]+(?:/(?:locations|zones|regions)/[^/]+|/global)?", call.path)
    home = scope[0] if scope else "v1"
    if call.service == "container":
        link = f"https://container.googleapis.com/{home}/operations/{name}"
        return {"name": name, "operationType": "SOME", "status": "RUNNING", "selfLink": link}
    if call.service == "compute":
        link = f"https://www.googleapis.com/{home}/operations/{name}"
        return {"kind": "compute#operation", "name": name, "status": "RUNNING", "selfLink": link}
    if call.service == "sqladmin":
        link = f"https://sqladmin.googleapis.com/{home}/operations/{name}"
        return {"kind": "sql#operation", "name": name, "status": "PENDING", "selfLink": link}
    if call.service == "serviceusage":
        return {"name": f"operations/{name}"}
    return {"name": f"{home.partition('/')[2]}/operations/{name}"}


def add_builtin_resources(call: Any, resources: Resources, project: str) -> None:
    """Add the resources that every project has."""
    if call.service == "serviceusage":
        resources.setdefault(call.path, {"name": call.path[3:], "state": "DISABLED"})
    if call.path == f"v3/projects/{project}":
        resources.setdefault(call.path, {"name": "projects/123456789", "projectId": project, "state": "ACTIVE"})


def with_output_fields(call: Any, path: str, resource: Any) -> Any:
    """A resource with the fields that Google adds."""
    kind = path.rsplit("/", 2)[-2] if "/" in path else ""
    if call.id.endswith("versions.access"):
        return {"name": path, "payload": resource.get("payload", {})}
    if kind == "versions":
        return {"name": path, "state": "ENABLED"}
    if call.service == "compute":
        resource = _linked(resource) | {"selfLink": LINK.removesuffix("compute/v1/") + path, "status": "READY"}
    return resource | {name: make(path) for (*of, name), make in OUTPUT_FIELDS.items() if of == [call.service, kind]}


def _id(call: Any) -> str:
    for name, value in call.query.items():
        if name.endswith("Id"):
            return value
    body = call.body
    if call.id == "iam.projects.serviceAccounts.create":
        return f"{body['accountId']}@{call.path.split('/')[2]}.iam.gserviceaccount.com"
    inner = body.get("cluster") or body.get("nodePool") or body
    return str(body.get("modelId") or inner["name"]).rpartition("/")[2]


def _create(resources: Resources, path: str, call: Any) -> None:
    body = dict(call.body)
    for wrapper in ("cluster", "nodePool", "serviceAccount", "model"):
        if isinstance(body.get(wrapper), dict):
            body = dict(body[wrapper])
    for pool in body.get("nodePools", []):
        resources[f"{path}/nodePools/{pool['name']}"] = dict(pool)
    resources[path] = body


def _deletion(resources: Resources, path: str) -> Action | str:
    if path not in resources:
        return "missing"
    name = path.partition("projects/")[2]
    if "/networks/" in path and any(name in repr(each) for other, each in resources.items() if other != path):
        return "in use"
    if resources[path].get("deployedModels"):
        return "in use"

    def act() -> None:
        for each in [each for each in resources if each == path or each.startswith(path + "/")]:
            del resources[each]

    return act


def _add_version(resources: Resources, secret: str, body: Any) -> None:
    base64.b64decode(body["payload"]["data"], validate=True)
    resources[f"{secret}/versions/latest"] = body


def _update_cluster(cluster: Resources, body: Any) -> None:
    ((name, value),) = body["update"].items()
    field = name.removeprefix("desired")
    cluster[field[0].lower() + field[1:]] = value


def _update_pool(pool: Resources, body: Any) -> None:
    """Fields of the pool's nodes are in its config."""
    for field, value in body.items():
        (pool["config"] if field in pool["config"] else pool)[field] = value


def _deploy(endpoint: Resources, body: Any) -> None:
    deployed = endpoint.setdefault("deployedModels", [])
    deployed.append(body["deployedModel"] | {"id": str(len(deployed) + 1)})


def _undeploy(endpoint: Resources, body: Any) -> None:
    endpoint["deployedModels"] = [each for each in endpoint["deployedModels"] if each["id"] != body["deployedModelId"]]


def _linked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _linked(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_linked(each) for each in value]
    if isinstance(value, str) and re.match(r"(projects|zones|regions|global)/", value):
        return LINK + (value if value.startswith("projects/") else f"projects/p/{value}")
    return value


VERBS: dict[str, Callable[[Resources, Any], Any]] = {
    "secrets.addVersion": _add_version,  # type: ignore[dict-item]
    "services.enable": lambda resource, body: resource.update(state="ENABLED"),
    "clusters.update": _update_cluster,
    "nodePools.update": _update_pool,
    "nodePools.setAutoscaling": lambda resource, body: resource.update(body),
    "nodePools.setManagement": lambda resource, body: resource.update(body),
    "disks.resize": lambda resource, body: resource.update(body),
    "forwardingRules.setTarget": lambda resource, body: resource.update(body),
    "endpoints.deployModel": _deploy,
    "endpoints.undeployModel": _undeploy,
    "endpoints.update": lambda resource, body: resource.update(body["endpoint"]),
}
OUTPUT_FIELDS: dict[tuple[str, str, str], Callable[[str], Any]] = {
    ("container", "clusters", "endpoint"): lambda path: "192.0.2.10",
    ("container", "clusters", "masterAuth"): lambda path: {"clusterCaCertificate": "ZmFrZQ=="},
    ("container", "clusters", "network"): lambda path: "momalisa",
    ("container", "clusters", "status"): lambda path: "RUNNING",
    ("compute", "addresses", "address"): lambda path: "10.0.0.9" if path.endswith("-database") else "192.0.2.20",
    ("sqladmin", "instances", "pscServiceAttachmentLink"): lambda path: "projects/t/regions/r/serviceAttachments/a",
    ("aiplatform", "endpoints", "dedicatedEndpointDns"): lambda path: "e.prediction.vertexai.goog",
    ("run", "services", "uri"): lambda path: "https://momalisa-fake.a.run.app",
    ("storage", "b", "location"): lambda path: "US-CENTRAL1",
    ("artifactregistry", "repositories", "name"): lambda path: path[3:],
}
