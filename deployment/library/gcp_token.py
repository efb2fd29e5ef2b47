#!/usr/bin/python
"""An access token for Google's registries and clusters, from the same credentials that gcp_resource uses."""

from __future__ import annotations

import google.auth.exceptions
import google.auth.transport.requests
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gcp_rest import OPTIONS, credentials

DOCUMENTATION = r"""
module: gcp_token
short_description: A short-lived access token
description:
  - Returns a token that is valid for an hour at most. Register it with no_log.
  - Without access_token and service_account_file it uses Google's application default credentials.
options:
  service_account_file: {description: "A service account key file. Default: GCP_SERVICE_ACCOUNT_FILE.", type: path}
  access_token: {description: "An access token to return. Default: GCP_ACCESS_TOKEN.", type: str}
requirements: [google-auth, requests]
author: [MoMALisa]
"""
EXAMPLES = r"""
- name: Get a token
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
        module.fail_json(msg=f"Cannot authenticate to Google: {error}")
    # exit_json would mask the token, which the next task needs. no_log on the task keeps it out of the output.
    module.no_log_values.clear()
    module.exit_json(changed=False, token=signed_in.token)


if __name__ == "__main__":
    main()
