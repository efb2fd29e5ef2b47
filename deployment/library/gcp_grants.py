#!/usr/bin/python
"""Grant or revoke IAM roles on one resource of a Google API. Other grants stay unchanged."""

from __future__ import annotations

import copy
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gcp_rest import OPTIONS, GoogleApi, GoogleError

DOCUMENTATION = r"""
module: gcp_grants
short_description: Grant or revoke roles on one resource of a Google API
description:
  - Reads the resource's IAM policy, adds or removes the grants, and writes the policy back with its etag.
  - Without access_token and service_account_file it uses Google's application default credentials.
options:
  api: {description: "The API's host name before .googleapis.com.", type: str, required: true}
  path: {description: "The path of the resource, starting with the API's version.", type: str, required: true}
  grants: {description: "The grants, each with role and member.", type: list, elements: dict, required: true}
  state: {description: "present grants, absent revokes.", type: str, choices: [present, absent], default: present}
  style:
    description: How the API exposes policies. colon - GET :getIamPolicy; post - POST :getIamPolicy; storage - /iam.
    type: str
    choices: [colon, post, storage]
    default: colon
  api_endpoint: {description: "Replaces https://{api}.googleapis.com. Default: GCP_API_ENDPOINT.", type: str}
  service_account_file: {description: "A service account key file. Default: GCP_SERVICE_ACCOUNT_FILE.", type: path}
  access_token: {description: "An access token, instead of other credentials. Default: GCP_ACCESS_TOKEN.", type: str}
  wait_s: {description: "Time limit in seconds of an operation.", type: int, default: 3600}
requirements: [google-auth, requests]
author: [MoMALisa]
"""
EXAMPLES = r"""
- name: Allow the api to write frames
  gcp_grants:
    api: storage
    path: storage/v1/b/pictures
    style: storage
    grants:
      - {role: roles/storage.objectUser, member: "serviceAccount:api@p.iam.gserviceaccount.com"}
"""
RETURN = r"""
bindings: {description: "The policy's bindings.", type: list, elements: dict, returned: always}
"""
SPEC: dict[str, Any] = {
    **OPTIONS,
    "path": {"type": "str", "required": True},
    "grants": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"role": {"type": "str", "required": True}, "member": {"type": "str", "required": True}},
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "style": {"type": "str", "choices": ["colon", "post", "storage"], "default": "colon"},
}
Policy = dict[str, Any]


def policy_of(google: GoogleApi, path: str, style: str) -> Policy | None:
    """The resource's policy, with conditions; None if there is no such resource."""
    found: Policy | None
    if style == "storage":
        found = google.read(f"{path}/iam", {"optionsRequestedPolicyVersion": 3})
    elif style == "post":
        found = google.read(f"{path}:getIamPolicy", body={"options": {"requestedPolicyVersion": 3}})
    else:
        found = google.read(f"{path}:getIamPolicy", {"options.requestedPolicyVersion": 3})
    return found


def granted(policy: Policy, grants: list[dict[str, str]], present: bool) -> Policy:
    """The policy with the grants added or removed. Bindings that have a condition stay unchanged."""
    after = copy.deepcopy(policy)
    bindings = after.setdefault("bindings", [])
    for grant in grants:
        plain = [one for one in bindings if one["role"] == grant["role"] and not one.get("condition")]
        if not present:
            for one in plain:
                one["members"] = [member for member in one["members"] if member != grant["member"]]
        elif not plain:
            bindings.append({"role": grant["role"], "members": [grant["member"]]})
        elif not any(grant["member"] in one["members"] for one in plain):
            plain[0]["members"].append(grant["member"])
    after["bindings"] = [one for one in bindings if one["members"]]
    return after


def write(google: GoogleApi, path: str, style: str, policy: Policy) -> None:
    """Replace the policy. Its etag makes Google reject the call if the policy was changed in the meantime."""
    if style == "storage":
        google.call("PUT", f"{path}/iam", policy)
    else:
        google.call("POST", f"{path}:setIamPolicy", {"policy": policy})


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    try:
        google = GoogleApi(params)
        found = policy_of(google, params["path"], params["style"])
        before = found or {}
        after = granted(before, params["grants"], params["state"] == "present")
        changed = after["bindings"] != before.get("bindings", [])
        if changed and not module.check_mode:
            write(google, params["path"], params["style"], after)
    except GoogleError as error:
        module.fail_json(msg=str(error))
    shown = {"before": before.get("bindings", []), "after": after["bindings"]}
    module.exit_json(changed=changed, bindings=after["bindings"], diff=shown)


if __name__ == "__main__":
    main()
