"""Answers HTTP: requests in, resources, pages and live events out."""
