"""A Python interpreter for Ansible's modules that starts with their imports done: see warm_server.py."""

import atexit
import functools
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.processes import start

# -S, -E: it imports nothing but these, and passes its environment on.
CLIENT = """#!{python} -SE
import marshal, os, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
socket.send_fds(server, [marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ)))], [0, 1, 2])
sys.exit(int(server.recv(16) or 1))
"""


@functools.cache
def warm_python() -> Path:
    """The path of the interpreter. It starts at first use, and ends with the tests."""
    folder = Path(tempfile.mkdtemp(prefix="momalisa-python-"))
    address = str(folder / "socket")
    # The kernel keeps connections until the server is ready.
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        server = Path(__file__).with_name("warm_server.py")
        process = start([sys.executable, str(server), str(listener.fileno())], pass_fds=[listener.fileno()])
    atexit.register(_end, process, folder)
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    return client


def _end(process: subprocess.Popen[Any], folder: Path) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(folder)
