"""Signing by `ssh-keygen -Y sign`: 4 to 8 ms, where importing cryptography would cost a one-shot client 67.

Lives here: one spawn with three pipes. Must not live here: which key to use.
"""

from __future__ import annotations

import binascii
import os

from aed.auth.publickey.sshsig import NAMESPACE
from aed.errors import Unavailable

BEGIN = b"-----BEGIN SSH SIGNATURE-----"
END = b"-----END SSH SIGNATURE-----"


def sign(path: str, message: bytes) -> bytes:
    """An SSHSIG over `message` by the private key in `path`. ssh-keygen itself asks for a passphrase, on the terminal or by SSH_ASKPASS.

    Raises `Unavailable` with ssh-keygen's own words.
    """
    # The agent was asked before, by its own round trip; ssh-keygen would ask it again.
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    status, output, errors = _run(["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", path], environment, message)
    start, end = output.find(BEGIN), output.find(END)
    if status or start < 0 or end < start:
        raise Unavailable(_last_words(errors) or f"ssh-keygen gave no signature (status {status})")
    try:
        return binascii.a2b_base64(output[start + len(BEGIN) : end])
    except binascii.Error as error:
        raise Unavailable(f"ssh-keygen gave a signature that cannot be read: {error}") from None


def _run(command: list[str], environment: dict[str, str], stdin: bytes) -> tuple[int, bytes, bytes]:
    """Exit status, stdout and stderr of `command`. ssh-keygen reads all input before it writes, so the pipes cannot fill up on each other."""
    pipes = [os.pipe() for _ in range(3)]
    (child_in, to_child), (from_child, child_out), (from_errors, child_errors) = pipes
    actions = [(os.POSIX_SPAWN_DUP2, child_in, 0), (os.POSIX_SPAWN_DUP2, child_out, 1), (os.POSIX_SPAWN_DUP2, child_errors, 2)]
    try:
        pid = os.posix_spawnp(command[0], command, environment, file_actions=actions)
    except OSError as error:
        for ends in pipes:
            os.close(ends[0])
            os.close(ends[1])
        raise Unavailable(f"{command[0]} cannot be started ({error.strerror}); install openssh-client") from None
    for end in (child_in, child_out, child_errors):
        os.close(end)
    try:
        with open(to_child, "wb", buffering=0) as writer:
            while stdin:
                stdin = stdin[writer.write(stdin) :]
    except BrokenPipeError:
        pass  # It ended early; its words say why.
    with open(from_child, "rb") as reader:
        output = reader.read()
    with open(from_errors, "rb") as reader:
        errors = reader.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output, errors


def _last_words(errors: bytes) -> str:
    """ssh-keygen's complaint on one line, without the frame of @ that it draws around a warning."""
    lines = [line.strip() for line in errors.decode("utf-8", "replace").splitlines() if line.strip("@ \r")]
    return "; ".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)[:500]
