"""A Python in which the packages of Ansible's modules are imported already: warm_server.py LISTENING_SOCKET.

Each connection brings a program, with its arguments, folder, environment and standard streams. A fork runs it, and its
exit code is the response. Imports take most of a module's time, and a playbook runs a hundred modules.
"""

import gc
import importlib
import marshal
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator

PRELOADED = (
    "ansible.modules",
    "ansible.module_utils.basic",
    "ansible.module_utils._internal._ansiballz._loader",
    "google.auth.transport.requests",
    "google.oauth2.service_account",
    "kubernetes.dynamic.resource",
)
STREAMS = 3


class ExtendedPath(list[str]):
    """The folders of a package, and those of the same name on sys.path.

    Ansible packs each module into an archive with all that it imports of Ansible, and puts that on sys.path.
    """

    def __init__(self, package: str, folders: list[str]) -> None:
        super().__init__(folders)
        self._package = package.replace(".", "/")

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from (f"{path}/{self._package}" for path in sys.path if path.endswith(".zip"))


def preload() -> None:
    """Import what modules import."""
    for name in PRELOADED:
        importlib.import_module(name)
    for name in ("ansible", "ansible.modules", "ansible.module_utils"):
        package = sys.modules[name]
        package.__path__ = ExtendedPath(name, list(package.__path__))
    gc.freeze()


def next_program(listener: socket.socket) -> list[str]:
    """The arguments of a program that this process, a fork, now has to run. The server itself does not return."""
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            message, streams, _, _ = socket.recv_fds(connection, 1 << 20, STREAMS)
            if (program := os.fork()) == 0:
                return _taken_over(marshal.loads(message), streams)
            connection.send(str(os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])).encode())
            os._exit(0)
        connection.close()


def _taken_over(start: tuple[list[str], str, dict[str, str]], streams: list[int]) -> list[str]:
    arguments, folder, environment = start
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # It depends on the environment.
    tempfile.tempdir = None
    return arguments


def run(arguments: list[str]) -> None:
    """Run a program as Python does: the file that is the first argument, else the standard input."""
    sys.argv = arguments or [""]
    if arguments:
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    preload()
    # Forks end without anybody who waits for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    run(next_program(socket.socket(fileno=int(sys.argv[1]))))
