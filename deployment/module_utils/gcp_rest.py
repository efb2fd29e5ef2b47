"""A client for one Google REST API: authenticated calls, and waiting for long-running operations.

It is generic for all resources, and built on google-auth and requests.
"""

from __future__ import annotations

import time
from typing import Any

import google.auth
import google.auth.transport.requests
import google.oauth2.credentials
import google.oauth2.service_account
import requests
import urllib3.util
from ansible.module_utils.basic import env_fallback

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
CALL_TIMEOUT_S = 60
LONGEST_PAUSE_S = 10.0

OPTIONS: dict[str, Any] = {
    "api": {"type": "str", "required": True},
    "api_endpoint": {"type": "str", "fallback": (env_fallback, ["GCP_API_ENDPOINT"])},
    "service_account_file": {"type": "path", "fallback": (env_fallback, ["GCP_SERVICE_ACCOUNT_FILE"])},
    "access_token": {"type": "str", "no_log": True, "fallback": (env_fallback, ["GCP_ACCESS_TOKEN"])},
    "wait_s": {"type": "int", "default": 3600},
}


class GoogleError(Exception):
    """A call or an operation failed. The message has the call and Google's error message."""


def credentials(params: dict[str, Any]) -> Any:
    """The given token, the service account's key or the application default credentials, in this order."""
    if params.get("access_token"):
        return google.oauth2.credentials.Credentials(params["access_token"])
    if params.get("service_account_file"):
        return google.oauth2.service_account.Credentials.from_service_account_file(
            params["service_account_file"], scopes=[SCOPE]
        )
    found, _project = google.auth.default(scopes=[SCOPE])
    return found


class GoogleApi:
    """One API with credentials. Paths start with the API's version, without a leading slash."""

    def __init__(self, params: dict[str, Any]) -> None:
        api = params["api"]
        self._base = (params.get("api_endpoint") or "https://{api}.googleapis.com").replace("{api}", api).rstrip("/")
        self._wait_s = params["wait_s"]
        self._session = google.auth.transport.requests.AuthorizedSession(credentials(params))
        retry = urllib3.util.Retry(total=5, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
        self._session.mount("https://", requests.adapters.HTTPAdapter(max_retries=retry))

    def read(
        self, path: str, query: dict[str, Any] | None = None, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """The resource at `path`, or None. With a body it is read by POST instead of GET."""
        response = self._send("GET" if body is None else "POST", path, body, query)
        return None if response.status_code == 404 else self._body(response)

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make a call, wait for its operation, and return the response. Raises GoogleError.

        DELETE succeeds if there is nothing to delete.
        """
        response = self._send(method, path, body, query)
        if method == "DELETE" and response.status_code == 404:
            return {}
        return self._result(self._body(response), path)

    def _send(self, method: str, path: str, body: Any, query: Any) -> requests.Response:
        url = f"{self._base}/{path}"
        response: requests.Response = self._session.request(
            method, url, json=body, params=query, timeout=CALL_TIMEOUT_S
        )
        return response

    def _body(self, response: requests.Response) -> dict[str, Any]:
        if response.ok:
            found: dict[str, Any] = response.json() if response.content else {}
            return found
        try:
            message = response.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = response.text[:500]
        request = response.request
        raise GoogleError(f"{request.method} {request.url} failed with status {response.status_code}: {message}")

    def _result(self, operation: dict[str, Any], path: str) -> dict[str, Any]:
        """The result of a call, once its operation is done."""
        if not is_operation(operation):
            return operation
        path, pause_s, until = operation_path(operation, path), 0.1, time.monotonic() + self._wait_s
        while not is_done(operation):
            if time.monotonic() > until:
                raise GoogleError(
                    f"{path} is still running after {self._wait_s} s. Check its state, then run the playbook again"
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            operation = self._body(self._send("GET", path, None, None))
        if operation.get("error"):
            raise GoogleError(f"{path} failed: {error_message(operation['error'])}")
        response: dict[str, Any] = operation.get("response", {})
        return response


def is_operation(operation: dict[str, Any]) -> bool:
    """Whether a response is a long-running operation. There are three kinds: AIP-151's, GKE's and Compute's."""
    if operation.get("kind") in ("compute#operation", "sql#operation"):
        return True
    name = str(operation.get("name", ""))
    return "/operations/" in f"/{name}" or ("operationType" in operation and "status" in operation)


def is_done(operation: dict[str, Any]) -> bool:
    return bool(operation.get("done")) or operation.get("status") == "DONE" or bool(operation.get("error"))


def operation_path(operation: dict[str, Any], path: str) -> str:
    """The path to poll an operation at: that of its selfLink, or its name after the version that `path` starts with."""
    link = str(operation.get("selfLink", ""))
    if link:
        return link.split("/", 3)[3]
    return f"{path.split('/', 1)[0]}/{operation['name']}"


def error_message(error: dict[str, Any]) -> str:
    """The message of an operation's error. Compute and Cloud SQL have lists of errors."""
    each = error.get("errors") or [error]
    return "; ".join(str(one.get("message", one)) for one in each)
