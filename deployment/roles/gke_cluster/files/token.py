"""A kubectl credential plugin: prints a Google access token, valid for an hour at most.

It replaces gke-gcloud-auth-plugin, so that gcloud is not needed. Credentials: GCP_ACCESS_TOKEN, the service account key
that GCP_SERVICE_ACCOUNT_FILE names, or the application default credentials, in this order.
"""

import json
import os

import google.auth
import google.auth.transport.requests
from google.oauth2 import credentials, service_account

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def main() -> None:
    signed_in = credentials.Credentials(os.environ.get("GCP_ACCESS_TOKEN"))
    if not signed_in.token:
        if file := os.environ.get("GCP_SERVICE_ACCOUNT_FILE"):
            signed_in = service_account.Credentials.from_service_account_file(file, scopes=SCOPES)
        else:
            signed_in, _ = google.auth.default(scopes=SCOPES)
        signed_in.refresh(google.auth.transport.requests.Request())
    status = {"token": signed_in.token}
    if signed_in.expiry:
        status["expirationTimestamp"] = signed_in.expiry.strftime("%Y-%m-%dT%H:%M:%SZ")
    print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))


if __name__ == "__main__":
    main()
