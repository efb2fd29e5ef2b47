"""Does a walk's jobs: plans rounds, renders shards, makes films."""
