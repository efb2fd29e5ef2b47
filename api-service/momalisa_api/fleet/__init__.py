"""The replicas: which there are, which of them renders which shard, and the clients that call them."""
