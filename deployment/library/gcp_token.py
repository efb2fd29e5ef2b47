#!/usr/bin/python
"""A token for Google's registry and clusters, an hour at most, from the credentials that gcp_resource uses too."""

from __future__ import annotations

import google.auth.exceptions
import google.auth.transport.requests
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gcp_rest import OPTIONS, credentials

DOCUMENTATION = r"""
module: gcp_token
short_description: A short-lived access token
description:
  - Signs in and returns the token. Register it under no_log.
options:
  service_account_file: {description: "A key file. GCP_SERVICE_ACCOUNT_FILE. Unset: application default.", type: path}
  access_token: {description: "A token to hand on. GCP_ACCESS_TOKEN.", type: str}
requirements: [google-auth, requests]
author: [MoMALisa]
"""
EXAMPLES = r"""
- name: Have a token
  gcp_token:
  register: token
  no_log: true
"""
RETURN = r"""
token: {description: "The token.", type: str, returned: always}
"""
SPEC = {name: OPTIONS[name] for name in ("service_account_file", "access_token")}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        signed_in = credentials(module.params)
        if not signed_in.token:
            signed_in.refresh(google.auth.transport.requests.Request())
    except google.auth.exceptions.GoogleAuthError as error:
        module.fail_json(msg=f"Cannot sign in: {error}")
    # Not by exit_json's no_log alone: what is handed on must reach the task that asked.
    module.no_log_values.clear()
    module.exit_json(changed=False, token=signed_in.token)


if __name__ == "__main__":
    main()
