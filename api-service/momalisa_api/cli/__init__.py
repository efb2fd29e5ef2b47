"""The command line: the client, the embedded deployment, and the operator's commands."""
