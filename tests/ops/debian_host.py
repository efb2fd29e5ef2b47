"""A Debian 13 that is reached by SSH: a container with systemd, in which the playbooks find what they find on a VM."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.journey.processes import wait_until
from tests.ops.debian_image import debian, imported, run
from tests.ops.docker_engine import FOLDER, DockerEngine

IMAGE = "momalisa/machine:13"
NAME = "momalisa-machine"
# What a cloud's image of Debian brings along, and an authority for certificates that asks like Let's Encrypt.
PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,sudo,python3,python3-apt,ca-certificates,iproute2,curl,pebble"
USER = "admin"
# systemd's and a Docker engine's; --privileged would ask for what a sandbox may lack.
CAPABILITIES = (
    *("AUDIT_CONTROL", "DAC_READ_SEARCH", "IPC_LOCK", "LINUX_IMMUTABLE", "NET_ADMIN", "NET_BROADCAST", "SYS_ADMIN"),
    *("SYS_BOOT", "SYS_NICE", "SYS_PTRACE", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG"),
)
# An engine gives control groups to be read only; systemd and the engine within make some.
BOOT = """
for place in /sys /sys/fs/cgroup /sys/fs/cgroup/*; do
    if mountpoint -q $place; then mount -o remount,bind,rw $place || true; fi
done
exec /sbin/init "$@"
"""
# For a host whose control groups are of the first version, which systemd takes only when told.
OLD_GROUPS = ("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "systemd.unified_cgroup_hierarchy=0")


@dataclass
class DebianHost:
    """The machine, and a key to it."""

    engine: DockerEngine
    folder: Path

    @property
    def address(self) -> str:
        """Its IP; another one after each start, perhaps."""
        return self.engine.docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", NAME).strip()

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def options(self) -> list[str]:
        """Of ssh: only our key, and nobody's list of known hosts."""
        return [
            "-o",
            "StrictHostKeyChecking=accept-new",
            "-o",
            f"UserKnownHostsFile={self.folder}/known",
            "-o",
            "LogLevel=ERROR",
        ]

    def ssh(self, *arguments: str) -> list[str]:
        """The command that goes there."""
        return ["ssh", "-i", str(self.key), *self.options, f"{USER}@{self.address}", *arguments]

    def tries(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command as root, over there."""
        return subprocess.run(
            [*self.ssh("sudo", "sh", "-c", f"'{command}'")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def does(self, command: str) -> str:
        """What a command as root prints over there. command: without single quotes. Raises AssertionError."""
        done = self.tries(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def puts(self, file: Path, path: str) -> None:
        """Copy a file there."""
        self.engine.docker("cp", file, f"{NAME}:{path}")

    def restarts(self) -> None:
        """Its power is cut and comes back."""
        self.engine.docker("kill", NAME)
        self.engine.docker("start", NAME)
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        (self.folder / "known").unlink(missing_ok=True)
        wait_until(lambda: self.tries("systemctl is-system-running --wait || true").returncode == 0, every_s=0.5)

    @contextmanager
    def reaches(self, port: int) -> Iterator[None]:
        """A port of loopback there leads to the same port here."""
        tunnel = subprocess.Popen(
            self.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", f"127.0.0.1:{port}:127.0.0.1:{port}"),
            stdin=subprocess.DEVNULL,
        )
        try:
            open_there = f"ss -Hltn | grep --quiet 127.0.0.1:{port}"
            wait_until(lambda: tunnel.poll() is not None or self.tries(open_there).returncode == 0, every_s=0.2)
            assert tunnel.poll() is None, "no tunnel"
            yield
        finally:
            tunnel.terminate()
            tunnel.wait(20)


@contextmanager
def machine(engine: DockerEngine, folder: Path) -> Iterator[DebianHost]:
    """A machine of our own, for as long as it is needed. /srv is a volume: no engine works upon layers of another."""
    assert shutil.which("ssh"), "no ssh here: make system-packages-vm installs it"
    if not engine.has(IMAGE):
        _make(engine)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
    engine.tries("rm", "--force", "--volumes", NAME)
    old = engine.docker("info", "--format", "{{.CgroupVersion}}").strip() == "1"
    rights = [flag for name in CAPABILITIES for flag in ("--cap-add", name)]
    for name in ("systempaths", "seccomp", "apparmor"):
        rights += ["--security-opt", f"{name}=unconfined"]
    rights += ["--device-cgroup-rule", "a *:* rwm", "--cgroupns", "private"]
    places = ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--volume", "/srv"]
    boot = ["sh", "-c", BOOT, "boot", *(OLD_GROUPS if old else ())]
    engine.docker("run", "--detach", "--name", NAME, *rights, *places, IMAGE, *boot)
    try:
        made = DebianHost(engine, folder)
        home = f"/home/{USER}/.ssh"
        engine.docker("exec", NAME, "install", "-d", "-o", USER, "-g", USER, "-m", "0700", home)
        made.puts(folder / "key.pub", f"{home}/authorized_keys")
        engine.docker("exec", NAME, "chown", f"{USER}:", f"{home}/authorized_keys")
        made.wait()
        yield made
    finally:
        (FOLDER / "machine.log").write_text(engine.tries("exec", NAME, "journalctl", "--no-pager").stdout)
        engine.docker("rm", "--force", "--volumes", NAME)


def _make(engine: DockerEngine) -> None:
    root = debian(FOLDER / "machine", "trixie", PACKAGES)
    run("chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", USER)
    (root / "etc/sudoers.d" / USER).write_text(f"{USER} ALL=(ALL) NOPASSWD:ALL\n")
    # Keys of hosts are made at the first start, as on a cloud's image.
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/systemd/system/ssh.service.d").mkdir(parents=True)
    (root / "etc/systemd/system/ssh.service.d/keys.conf").write_text(
        "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\n"
    )
    imported(engine, root, IMAGE)
