"""MoMALisa's api service: walks, their frames over many replicas, and the films made of them."""

__version__ = "0.1.0"
