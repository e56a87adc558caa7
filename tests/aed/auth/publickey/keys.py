"""Real ssh keys by ssh-keygen, and a real ssh-agent.

Lives here: what the tests of publickey share. Must not live here: tests.
"""

from __future__ import annotations

import binascii
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = {
    "ed25519": ["-t", "ed25519"],
    "ecdsa256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa521": ["-t", "ecdsa", "-b", "521"],
    "rsa2048": ["-t", "rsa", "-b", "2048"],
    "rsa-pem": ["-t", "rsa", "-b", "2048", "-m", "PEM"],
}


def generate(directory: Path, name: str, kind: str = "ed25519", passphrase: str = "") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", *KINDS.get(kind, ["-t", kind]), "-N", passphrase, "-C", f"{name} comment", "-f", str(path)], check=True)
    return path


def public_line(path: Path) -> bytes:
    return Path(f"{path}.pub").read_bytes()


def blob(path: Path) -> bytes:
    return binascii.a2b_base64(public_line(path).split()[1])


def add(agent: str, *paths: Path) -> None:
    subprocess.run(["ssh-add", "-q", *map(str, paths)], env={**os.environ, "SSH_AUTH_SOCK": agent}, check=True)


@contextmanager
def running_agent(directory: Path) -> Iterator[str]:
    """The socket's path of a real ssh-agent that ends with the block."""
    path = str(directory / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        agent.stdout.readline()  # It prints its environment once the socket listens.
        try:
            yield path
        finally:
            agent.terminate()
