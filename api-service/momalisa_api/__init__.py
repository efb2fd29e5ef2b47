"""MoMALisa's api service: walks, their frames over many replicas, and the films made of them."""
