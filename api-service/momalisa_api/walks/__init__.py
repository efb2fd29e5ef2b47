"""Specs, ids and layouts of walks: pure functions without input or output."""
