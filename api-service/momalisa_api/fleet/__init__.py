"""The replicas: which are there, which shard goes to which, and how they are called."""
