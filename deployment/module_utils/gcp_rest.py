"""One of Google's REST APIs: calls with credentials, and waiting for the operations that they begin.

Knows nothing of what it sends. google-auth and requests do the work; both come with any Google client.
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
    """Google refused, or an operation failed. str() is Google's own sentence after what was asked."""


def credentials(params: dict[str, Any]) -> Any:
    """What to sign in with: a token, a service account's file, or the application default, in this order."""
    if params.get("access_token"):
        return google.oauth2.credentials.Credentials(params["access_token"])
    if params.get("service_account_file"):
        return google.oauth2.service_account.Credentials.from_service_account_file(
            params["service_account_file"], scopes=[SCOPE]
        )
    found, _project = google.auth.default(scopes=[SCOPE])
    return found


class Google:
    """One API, with credentials. Paths have no leading slash and begin with the API's version."""

    def __init__(self, params: dict[str, Any]) -> None:
        api = params["api"]
        self._base = (params.get("api_endpoint") or "https://{api}.googleapis.com").replace("{api}", api).rstrip("/")
        self._wait_s = params["wait_s"]
        self._session = google.auth.transport.requests.AuthorizedSession(credentials(params))
        again = urllib3.util.Retry(total=5, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
        self._session.mount("https://", requests.adapters.HTTPAdapter(max_retries=again))

    def read(
        self, path: str, query: dict[str, Any] | None = None, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """What stands at `path`; None where there is nothing. With a body it is asked for by POST."""
        answer = self._send("GET" if body is None else "POST", path, body, query)
        return None if answer.status_code == 404 else self._body(answer)

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Do it, wait until it is done, and return the answer. Raises GoogleError. Gone already is deleted."""
        answer = self._send(method, path, body, query)
        if method == "DELETE" and answer.status_code == 404:
            return {}
        return self._awaited(self._body(answer), path)

    def _send(self, method: str, path: str, body: Any, query: Any) -> requests.Response:
        url = f"{self._base}/{path}"
        answer: requests.Response = self._session.request(method, url, json=body, params=query, timeout=CALL_TIMEOUT_S)
        return answer

    def _body(self, answer: requests.Response) -> dict[str, Any]:
        if answer.ok:
            found: dict[str, Any] = answer.json() if answer.content else {}
            return found
        try:
            said = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            said = answer.text[:500]
        request = answer.request
        raise GoogleError(f"{request.method} {request.url} was answered {answer.status_code}: {said}")

    def _awaited(self, answer: dict[str, Any], path: str) -> dict[str, Any]:
        if not is_operation(answer):
            return answer
        place, pause_s, until = operation_path(answer, path), 0.1, time.monotonic() + self._wait_s
        while not is_done(answer):
            if time.monotonic() > until:
                raise GoogleError(f"{place} still runs after {self._wait_s} s: look at it, then run the playbook again")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            answer = self._body(self._send("GET", place, None, None))
        if answer.get("error"):
            raise GoogleError(f"{place} failed: {reason(answer['error'])}")
        response: dict[str, Any] = answer.get("response", {})
        return response


def is_operation(answer: dict[str, Any]) -> bool:
    """Whether an answer is the beginning of something longer. Three kinds are about: AIP-151, GKE's, and Compute's."""
    if answer.get("kind") in ("compute#operation", "sql#operation"):
        return True
    name = str(answer.get("name", ""))
    return "/operations/" in f"/{name}" or ("operationType" in answer and "status" in answer)


def is_done(answer: dict[str, Any]) -> bool:
    return bool(answer.get("done")) or answer.get("status") == "DONE" or bool(answer.get("error"))


def operation_path(answer: dict[str, Any], path: str) -> str:
    """Where to ask after an operation: its selfLink's path, or its name under the version that `path` begins with."""
    link = str(answer.get("selfLink", ""))
    if link:
        return link.split("/", 3)[3]
    return f"{path.split('/', 1)[0]}/{answer['name']}"


def reason(error: dict[str, Any]) -> str:
    """What an operation's error says; Compute and Cloud SQL have lists of them."""
    each = error.get("errors") or [error]
    return "; ".join(str(one.get("message", one)) for one in each)
