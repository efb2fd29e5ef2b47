"""Which tests share a process of pytest-xdist: those of a file, and those of files that share a deployment.

A deployment takes up to a minute to start, in each process that has a test for it.
"""

from pathlib import PurePath

from xdist.scheduler import LoadFileScheduling

TOGETHER = (
    {"browser"},
    {"test_picture_walk.py", "test_private_walk.py", "test_walk.py"},
)


class ByDeployment(LoadFileScheduling):  # type: ignore[misc]
    """Like --dist=loadfile, with the files that share a deployment as one."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        parts = set(PurePath(file).parts)
        return next((" ".join(sorted(group)) for group in TOGETHER if group & parts), file)
