"""The peer: OpenSSH's own sshd and ssh on loopback, set up as fast as it honestly goes.

Lives here: starting sshd, the words that start its client. Must not live here: measuring.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support import machine, wait
from tests.support.box import Box
from tests.support.machine import TestAccount

CIPHER = "aes128-gcm@openssh.com"
KEX = "curve25519-sha256"


class Sshd:
    """A running sshd: ed25519 host key, curve25519, aes128-gcm, no PAM, no look-ups, no limit on starts, no log."""

    label = "OpenSSH"

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{machine.MARK}-{os.getpid()}-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.box = Box()
        # sshd's own privilege separation directory; Debian's service makes it, and no service runs here.
        self._made_run = not Path("/run/sshd").exists()
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        host_key = self.directory / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", host_key], check=True)
        log = self.directory / "log"
        # sshd starts itself again for each connection, so it insists on its full path.
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") or "/usr/sbin/sshd"
        public = Path(f"{host_key}.pub").read_text()
        # sshd takes no port 0, and whoever picks a port for it races with the rest of the machine: so try until one is free.
        for port in range(20000 + os.getpid() % 10000, 32768):
            (self.directory / "config").write_text(
                f"""\
Port {port}
ListenAddress 127.0.0.1
HostKey {host_key}
PidFile none
KexAlgorithms {KEX}
Ciphers {CIPHER}
HostKeyAlgorithms ssh-ed25519
AuthenticationMethods publickey
AuthorizedKeysFile .ssh/authorized_keys
UsePAM no
UseDNS no
GSSAPIAuthentication no
KbdInteractiveAuthentication no
PasswordAuthentication no
X11Forwarding no
PrintMotd no
PrintLastLog no
MaxStartups 1000
MaxSessions 1000
LogLevel QUIET
"""
            )
            self.port = port
            self._process = subprocess.Popen(self.box.enter(program, "-D", "-f", self.directory / "config", "-E", log), stdin=subprocess.DEVNULL)
            if wait.until(self._answers, "sshd answers") == "yes":
                break
        else:
            raise AssertionError(f"sshd does not start:\n{log.read_text()}")
        self._known_hosts = self.directory / "known_hosts"
        self._known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}")

    def _answers(self) -> str:
        if self._process.poll() is not None:
            return "ended"
        # Listening is seen in the kernel's table: a connection would already be a session of the thing measured.
        wanted = f"0100007F:{self.port:04X} 00000000:0000 0A"
        return "yes" if any(wanted in line for line in Path("/proc/net/tcp").read_text().splitlines()) and self._owns() else ""

    def _owns(self) -> bool:
        return "sshd" in Path(f"/proc/{self._process.pid}/comm").read_text()

    def client(self, account: TestAccount, *command: str) -> list[str]:
        """`ssh` for this account: no configuration files, no agent, the key in a file, the host key known."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self._known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "KexAlgorithms": KEX,
            "Ciphers": CIPHER,
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", "-T", *words, "-i", str(account.key), "-p", str(self.port), f"{account.name}@127.0.0.1", shlex.join(command)]

    def client_with_workers(self, account: TestAccount, workers: int, *command: str) -> list[str]:
        raise NotImplementedError("ssh has no workers")

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)
        left = self.box.kill()
        self.box.close()
        shutil.rmtree(self.directory)
        if self._made_run:
            Path("/run/sshd").rmdir()
        if left:
            raise AssertionError(f"sshd left {left}")
