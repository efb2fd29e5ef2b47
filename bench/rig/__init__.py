"""Shared parts of the API's benches. None of them is measured."""
