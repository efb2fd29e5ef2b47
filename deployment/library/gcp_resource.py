#!/usr/bin/python
"""One resource of any of Google's REST APIs: read, compare, create or update, wait. Knows no resource by name."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gcp_compare import at, differences, holds, merged, nested
from ansible.module_utils.gcp_rest import OPTIONS, Google, GoogleError

DOCUMENTATION = r"""
module: gcp_resource
short_description: Bring one resource of a Google API to a wanted state
description:
  - Reads the resource, compares the wanted body with it, and creates, updates or deletes it if need be.
  - Waits for the operation that Google begins. Has check mode and diff.
options:
  api: {description: "The API's host name before .googleapis.com.", type: str, required: true}
  path: {description: "The resource, from the API's version on.", type: str, required: true}
  state:
    description: What should be; read changes nothing.
    type: str
    choices: [present, absent, read]
    default: present
  body: {description: "The wanted resource. Fields that it does not name stay.", type: dict, default: {}}
  collection: {description: "Where to POST to. Default: the path without its last part.", type: str}
  create_query: {description: "The query of that POST.", type: dict, default: {}}
  create_body: {description: "Its body, where that is not the resource itself.", type: dict}
  create_only: {description: "Fields that matter at creation alone.", type: list, elements: str, default: []}
  update:
    description: mask is PATCH with updateMask, patch is PATCH without, verbs is what is in verbs.
    type: str
    choices: [mask, patch, verbs]
    default: mask
  verbs:
    description: How single fields are changed. A field that is not listed cannot be, and the task fails saying so.
    type: list
    elements: dict
    default: []
    suboptions:
      field: {description: "The field of the body, dotted.", type: str, required: true}
      method: {description: "The HTTP method.", type: str, default: PUT}
      suffix: {description: "What follows the path, such as :setAutoscaling.", type: str, default: ""}
      place: {description: "Where the value stands in the request, dotted; default is the field.", type: str}
      request: {description: "What is sent, where that is not the value.", type: dict}
  delete_query: {description: "The query of DELETE.", type: dict, default: {}}
  delete_path: {description: "Where to DELETE, where that is not the path.", type: str}
  api_endpoint: {description: "In place of https://{api}.googleapis.com. GCP_API_ENDPOINT.", type: str}
  service_account_file: {description: "A key file. GCP_SERVICE_ACCOUNT_FILE. Unset: application default.", type: path}
  access_token: {description: "A token, before all else. GCP_ACCESS_TOKEN.", type: str}
  wait_s: {description: "Seconds to wait for an operation.", type: int, default: 3600}
requirements: [google-auth, requests]
author: [MoMALisa]
"""
EXAMPLES = r"""
- name: Have a repository for images
  gcp_resource:
    api: artifactregistry
    path: v1/projects/p/locations/us-central1/repositories/momalisa
    create_query: {repositoryId: momalisa}
    body: {format: DOCKER}
"""
RETURN = r"""
resource: {description: "The resource as Google has it; empty where there is none.", type: dict, returned: always}
"""
VERB = {
    "field": {"type": "str", "required": True},
    "method": {"type": "str", "default": "PUT"},
    "suffix": {"type": "str", "default": ""},
    "place": {"type": "str"},
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


class Refusal(Exception):
    """The wanted state cannot be reached from the found one."""


def converge(params: dict[str, Any], google: Google, dry: bool) -> tuple[bool, Found, Found]:
    """Bring the resource to its state. Returns whether that took a change, and the resource before and after."""
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


def _created(params: dict[str, Any], google: Google, dry: bool) -> Found:
    if dry:
        return dict(params["body"])
    collection = params["collection"] or params["path"].rpartition("/")[0]
    body = params["create_body"] if params["create_body"] is not None else params["body"]
    google.call("POST", collection, body, params["create_query"])
    return google.read(params["path"]) or {}


def _updated(params: dict[str, Any], google: Google, before: Found, changed: list[str], dry: bool) -> Found:
    if params["update"] == "verbs":
        return _told(params, google, before, dry)
    wanted = {field: merged(before.get(field), params["body"][field]) for field in changed}
    if dry:
        return before | wanted
    mask = {"updateMask": ",".join(changed)} if params["update"] == "mask" else {}
    google.call("PATCH", params["path"], wanted, mask)
    return google.read(params["path"]) or {}


def _told(params: dict[str, Any], google: Google, before: Found, dry: bool) -> Found:
    """Change field by field, each by its verb; nothing at all where one has none."""
    wanted, after, steps = _compared(params), before, []
    for verb in params["verbs"]:
        value, found = at(wanted, verb["field"]), at(before, verb["field"])
        if value is not None and not holds(found, value):
            steps.append((verb, merged(found, value)))
            after = merged(after, nested(verb["field"], value))
    if stuck := differences(wanted, after):
        raise Refusal(
            f"{params['path']} differs in {', '.join(stuck)}, which cannot be changed in place: "
            "set it as it is, or delete the resource and run the playbook again"
        )
    if dry:
        return after
    for verb, value in steps:
        body = verb["request"] if verb["request"] is not None else nested(verb["place"] or verb["field"], value)
        google.call(verb["method"], params["path"] + verb["suffix"], body)
    return google.read(params["path"]) or {}


def diff(params: dict[str, Any], before: Found, after: Found) -> dict[str, Any]:
    """Before and after, of the fields that are wanted: Google's own would drown them."""
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
        changed, before, after = converge(module.params, Google(module.params), module.check_mode)
    except (GoogleError, Refusal) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, resource=after, diff=diff(module.params, before, after))


if __name__ == "__main__":
    main()
