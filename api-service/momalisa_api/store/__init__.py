"""The catalogue, the queue and the bucket: everything that outlives a process."""
