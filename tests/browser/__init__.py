"""A package, so that pytest tears down package-scoped fixtures after the last test of this folder."""
