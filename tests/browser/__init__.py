"""A package to pytest, so that what is of package scope ends with the last test of this folder."""
