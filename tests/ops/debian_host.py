"""A Debian 13 host with SSH and systemd, in a container: a substitute for a VM."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ops.debian_image import debian_root, import_image, run
from tests.ops.docker_engine import FOLDER, DockerEngine
from tests.support.processes import start, wait_until

IMAGE = "momalisa/debian-host:13"
NAME = "momalisa-debian-host"
# The packages of a cloud image of Debian, and pebble: an ACME server for tests.
PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,sudo,python3,python3-apt,ca-certificates,iproute2,curl,pebble"
USER = "admin"
# What systemd and a Docker engine need. --privileged would need more, which a sandbox may not have.
CAPABILITIES = (
    *("AUDIT_CONTROL", "DAC_READ_SEARCH", "IPC_LOCK", "LINUX_IMMUTABLE", "NET_ADMIN", "NET_BROADCAST", "SYS_ADMIN"),
    *("SYS_BOOT", "SYS_NICE", "SYS_PTRACE", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG"),
)
# Docker mounts control groups read-only; systemd and the inner engine create some.
BOOT = """
for mount in /sys /sys/fs/cgroup /sys/fs/cgroup/*; do
    if mountpoint -q $mount; then mount -o remount,bind,rw $mount || true; fi
done
exec /sbin/init "$@"
"""
# Lets systemd run on a host with control groups of version 1.
CGROUPS_V1 = ("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "systemd.unified_cgroup_hierarchy=0")


@dataclass
class DebianHost:
    """The running host and the SSH key for it."""

    engine: DockerEngine
    folder: Path

    @property
    def address(self) -> str:
        """Its IP address, which may change at a restart."""
        return self.engine.docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", NAME).strip()

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def options(self) -> list[str]:
        """Options of ssh: a separate list of known hosts."""
        return [
            "-o",
            "StrictHostKeyChecking=accept-new",
            "-o",
            f"UserKnownHostsFile={self.folder}/known",
            "-o",
            "LogLevel=ERROR",
        ]

    def ssh(self, *arguments: str) -> list[str]:
        """An ssh command line that runs a command on the host."""
        return ["ssh", "-i", str(self.key), *self.options, f"{USER}@{self.address}", *arguments]

    def try_command(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root on the host; it may fail."""
        return subprocess.run(
            [*self.ssh("sudo", "sh", "-c", f"'{command}'")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, command: str) -> str:
        """The output of a command as root on the host. command: without single quotes. Raises AssertionError."""
        done = self.try_command(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def copy(self, file: Path, path: str) -> None:
        """Copy a file to the host."""
        self.engine.docker("cp", file, f"{NAME}:{path}")

    def power_cycle(self) -> None:
        """Stop the host without a shutdown, and start it again."""
        self.engine.docker("kill", NAME)
        self.engine.docker("start", NAME)
        self.wait()

    def wait(self) -> None:
        """Wait until the host accepts SSH connections and has booted."""
        (self.folder / "known").unlink(missing_ok=True)
        wait_until(lambda: self.try_command("systemctl is-system-running --wait || true").returncode == 0, every_s=0.5)

    @contextmanager
    def remote_forward(self, port: int) -> Iterator[None]:
        """Forward a port on the host's localhost to the same port on this machine."""
        tunnel = start(
            self.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", f"127.0.0.1:{port}:127.0.0.1:{port}"),
            stdin=subprocess.DEVNULL,
        )
        try:
            is_listening = f"ss -Hltn | grep --quiet 127.0.0.1:{port}"
            wait_until(lambda: tunnel.poll() is not None or self.try_command(is_listening).returncode == 0, every_s=0.2)
            assert tunnel.poll() is None, "the SSH tunnel failed"
            yield
        finally:
            tunnel.terminate()
            tunnel.wait(20)


@contextmanager
def debian_host(engine: DockerEngine, folder: Path) -> Iterator[DebianHost]:
    """Start a host. /srv is a volume, because an inner Docker engine does not work on an overlay file system."""
    assert shutil.which("ssh"), "ssh is not installed: run make system-packages-vm"
    if not engine.has(IMAGE):
        _build_image(engine)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
    engine.try_docker("rm", "--force", "--volumes", NAME)
    is_v1 = engine.docker("info", "--format", "{{.CgroupVersion}}").strip() == "1"
    privileges = [flag for name in CAPABILITIES for flag in ("--cap-add", name)]
    for name in ("systempaths", "seccomp", "apparmor"):
        privileges += ["--security-opt", f"{name}=unconfined"]
    privileges += ["--device-cgroup-rule", "a *:* rwm", "--cgroupns", "private"]
    mounts = ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--volume", "/srv"]
    boot = ["sh", "-c", BOOT, "boot", *(CGROUPS_V1 if is_v1 else ())]
    engine.docker("run", "--detach", "--name", NAME, *privileges, *mounts, IMAGE, *boot)
    try:
        host = DebianHost(engine, folder)
        home = f"/home/{USER}/.ssh"
        engine.docker("exec", NAME, "install", "-d", "-o", USER, "-g", USER, "-m", "0700", home)
        host.copy(folder / "key.pub", f"{home}/authorized_keys")
        engine.docker("exec", NAME, "chown", f"{USER}:", f"{home}/authorized_keys")
        host.wait()
        yield host
    finally:
        (FOLDER / "debian-host.log").write_text(engine.try_docker("exec", NAME, "journalctl", "--no-pager").stdout)
        engine.docker("rm", "--force", "--volumes", NAME)


def _build_image(engine: DockerEngine) -> None:
    root = debian_root(FOLDER / "debian-host", "trixie", PACKAGES)
    run("chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", USER)
    (root / "etc/sudoers.d" / USER).write_text(f"{USER} ALL=(ALL) NOPASSWD:ALL\n")
    # Host keys are generated at the first start, as in a cloud image.
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/systemd/system/ssh.service.d").mkdir(parents=True)
    (root / "etc/systemd/system/ssh.service.d/keys.conf").write_text(
        "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\n"
    )
    import_image(engine, root, IMAGE)
