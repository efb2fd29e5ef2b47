#!/usr/bin/python
"""One resource of any Google REST API: read, compare, create, update or delete it, and wait."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gcp_compare import at, differences, holds, merged, nested
from ansible.module_utils.gcp_rest import OPTIONS, GoogleApi, GoogleError

DOCUMENTATION = r"""
module: gcp_resource
short_description: Bring one resource of a Google API to the wanted state
description:
  - Reads the resource, compares it with the wanted body, and creates, updates or deletes it if necessary.
  - Waits for long-running operations. Supports check mode and diff.
  - Without access_token and service_account_file it uses Google's application default credentials.
options:
  api: {description: "The API's host name before .googleapis.com.", type: str, required: true}
  path: {description: "The path of the resource, starting with the API's version.", type: str, required: true}
  state:
    description: The wanted state. read only returns the resource.
    type: str
    choices: [present, absent, read]
    default: present
  body: {description: "The wanted fields. Other fields of the resource stay unchanged.", type: dict, default: {}}
  collection: {description: "The path to POST a new resource to. Default: the path without its last part.", type: str}
  create_query: {description: "The query parameters of that POST.", type: dict, default: {}}
  create_body: {description: "The body of that POST. Default: body.", type: dict}
  create_only: {description: "Fields that are used at creation only.", type: list, elements: str, default: []}
  update:
    description: How to update. mask - PATCH with updateMask; patch - PATCH without; verbs - the calls in verbs.
    type: str
    choices: [mask, patch, verbs]
    default: mask
  verbs:
    description: The calls that change single fields. The task fails if a field differs that is not listed here.
    type: list
    elements: dict
    default: []
    suboptions:
      field: {description: "The field of the body, as a dotted path.", type: str, required: true}
      method: {description: "The HTTP method.", type: str, default: PUT}
      suffix: {description: "Appended to the path, such as :setAutoscaling.", type: str, default: ""}
      target: {description: "The value's dotted path in the request. Default: field.", type: str}
      request: {description: "The body of the request. Default: the value at target.", type: dict}
  delete_query: {description: "The query parameters of DELETE.", type: dict, default: {}}
  delete_path: {description: "The path to DELETE. Default: path.", type: str}
  api_endpoint: {description: "Replaces https://{api}.googleapis.com. Default: GCP_API_ENDPOINT.", type: str}
  service_account_file: {description: "A service account key file. Default: GCP_SERVICE_ACCOUNT_FILE.", type: path}
  access_token: {description: "An access token, instead of other credentials. Default: GCP_ACCESS_TOKEN.", type: str}
  wait_s: {description: "Time limit in seconds of an operation.", type: int, default: 3600}
requirements: [google-auth, requests]
author: [MoMALisa]
"""
EXAMPLES = r"""
- name: Create a repository for images
  gcp_resource:
    api: artifactregistry
    path: v1/projects/p/locations/us-central1/repositories/momalisa
    create_query: {repositoryId: momalisa}
    body: {format: DOCKER}
"""
RETURN = r"""
resource: {description: "The resource as Google returns it; empty if there is none.", type: dict, returned: always}
"""
VERB = {
    "field": {"type": "str", "required": True},
    "method": {"type": "str", "default": "PUT"},
    "suffix": {"type": "str", "default": ""},
    "target": {"type": "str"},
    "request": {"type": "dict"},
}
SPEC: dict[str, Any] = {
    **OPTIONS,
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent", "read"], "default": "present"},
    "body": {"type": "dict", "default": {}},
    "collection": {"type": "str"},
    "create_query": {"type": "dict", "default": {}},
    "create_body": {"type": "dict"},
    "create_only": {"type": "list", "elements": "str", "default": []},
    "update": {"type": "str", "choices": ["mask", "patch", "verbs"], "default": "mask"},
    "verbs": {"type": "list", "elements": "dict", "options": VERB, "default": []},
    "delete_query": {"type": "dict", "default": {}},
    "delete_path": {"type": "str"},
}
Found = dict[str, Any]


class CannotUpdate(Exception):
    """The resource cannot be changed to the wanted state."""


def converge(params: dict[str, Any], google: GoogleApi, dry: bool) -> tuple[bool, Found, Found]:
    """Bring the resource to its state. Returns whether it changed, and the resource before and after."""
    before = google.read(params["path"]) or {}
    if params["state"] == "read":
        return False, before, before
    if params["state"] == "absent":
        if before and not dry:
            google.call("DELETE", params["delete_path"] or params["path"], query=params["delete_query"])
        return bool(before), before, {}
    if not before:
        return True, {}, _created(params, google, dry)
    changed = differences(_compared(params), before)
    return bool(changed), before, _updated(params, google, before, changed, dry) if changed else before


def _compared(params: dict[str, Any]) -> Found:
    return {field: value for field, value in params["body"].items() if field not in params["create_only"]}


def _created(params: dict[str, Any], google: GoogleApi, dry: bool) -> Found:
    if dry:
        return dict(params["body"])
    collection = params["collection"] or params["path"].rpartition("/")[0]
    body = params["create_body"] if params["create_body"] is not None else params["body"]
    google.call("POST", collection, body, params["create_query"])
    return google.read(params["path"]) or {}


def _updated(params: dict[str, Any], google: GoogleApi, before: Found, changed: list[str], dry: bool) -> Found:
    if params["update"] == "verbs":
        return _updated_by_verbs(params, google, before, dry)
    wanted = {field: merged(before.get(field), params["body"][field]) for field in changed}
    if dry:
        return before | wanted
    mask = {"updateMask": ",".join(changed)} if params["update"] == "mask" else {}
    google.call("PATCH", params["path"], wanted, mask)
    return google.read(params["path"]) or {}


def _updated_by_verbs(params: dict[str, Any], google: GoogleApi, before: Found, dry: bool) -> Found:
    """Change each differing field by its verb; nothing at all if one of them has none."""
    wanted, after, steps = _compared(params), before, []
    for verb in params["verbs"]:
        value, found = at(wanted, verb["field"]), at(before, verb["field"])
        if value is not None and not holds(found, value):
            steps.append((verb, merged(found, value)))
            after = merged(after, nested(verb["field"], value))
    if stuck := differences(wanted, after):
        raise CannotUpdate(
            f"{params['path']} differs in {', '.join(stuck)}, which cannot be changed in place. "
            "Set the variable to the current value, or delete the resource and run the playbook again"
        )
    if dry:
        return after
    for verb, value in steps:
        body = verb["request"] if verb["request"] is not None else nested(verb["target"] or verb["field"], value)
        google.call(verb["method"], params["path"] + verb["suffix"], body)
    return google.read(params["path"]) or {}


def diff(params: dict[str, Any], before: Found, after: Found) -> dict[str, Any]:
    """Before and after, of the wanted fields only: Google's other fields would hide the difference."""
    fields = params["body"] if params["state"] == "present" else before
    return {
        "before": {field: before[field] for field in fields if field in before},
        "after": {field: after[field] for field in fields if field in after},
        "before_header": params["path"],
        "after_header": params["path"],
    }


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        changed, before, after = converge(module.params, GoogleApi(module.params), module.check_mode)
    except (GoogleError, CannotUpdate) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, resource=after, diff=diff(module.params, before, after))


if __name__ == "__main__":
    main()
