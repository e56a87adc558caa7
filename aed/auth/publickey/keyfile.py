"""What a key file on the user's disk holds, found without decrypting it: its public key, and whether a passphrase guards it.

Lives here: reading of ~/.ssh files. Must not live here: private keys (ssh-keygen reads them), decisions about which to use.
"""

from __future__ import annotations

import binascii

from aed.auth.publickey.sshwire import read_string
from aed.errors import Unavailable

MAX_SIZE = 1 << 16
OPENSSH_BEGIN = b"-----BEGIN OPENSSH PRIVATE KEY-----"
OPENSSH_END = b"-----END OPENSSH PRIVATE KEY-----"
OPENSSH_MAGIC = b"openssh-key-v1\0"


class KeyFile:
    """`path` of the private key (None where only the public key is here), the public key where it is known, and whether a passphrase is needed."""

    __slots__ = ("encrypted", "path", "public")

    def __init__(self, path: str | None, public: bytes | None, encrypted: bool) -> None:
        self.path = path
        self.public = public
        self.encrypted = encrypted


def look(path: str) -> KeyFile:
    """The key in the file at `path`. Raises `Unavailable` with the reason why it cannot be used, `FileNotFoundError` where it is not there."""
    text = _read(path)
    if b"-----BEGIN CERTIFICATE-----" in text:
        raise Unavailable("holds an X.509 certificate; mechanism x509 uses it")
    if OPENSSH_BEGIN in text:
        public, encrypted = _openssh(text)
        return KeyFile(path, public, encrypted)
    if b"PRIVATE KEY-----" in text:
        return KeyFile(path, _public_beside(path), b"ENCRYPTED" in text)
    public_line = _public_line(text)
    if public_line is None:
        raise Unavailable("holds no ssh key")
    if path.endswith(".pub"):
        try:
            return KeyFile(path[:-4], public_line, look(path[:-4]).encrypted)
        except (OSError, Unavailable):
            pass
    return KeyFile(None, public_line, False)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_SIZE)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(f"cannot be read: {error.strerror}") from None


def _openssh(text: bytes) -> tuple[bytes, bool]:
    """Public key and encryption of OpenSSH's own format, whose head is in the clear."""
    try:
        body = binascii.a2b_base64(text.split(OPENSSH_BEGIN, 1)[1].split(OPENSSH_END, 1)[0])
        if not body.startswith(OPENSSH_MAGIC):
            raise ValueError("has no openssh-key-v1 head")
        cipher, at = read_string(body, len(OPENSSH_MAGIC))
        _, at = read_string(body, at)
        _, at = read_string(body, at)
        return read_string(body, at + 4)[0], cipher != b"none"
    except ValueError as error:
        raise Unavailable(f"is not a valid OpenSSH private key: {error}") from None


def _public_beside(path: str) -> bytes | None:
    """PEM keys do not show their public part before they are decrypted; ssh-keygen too looks for it in the file beside."""
    try:
        return _public_line(_read(path + ".pub"))
    except (OSError, Unavailable):
        return None


def _public_line(text: bytes) -> bytes | None:
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and not words[0].startswith(b"#"):
            try:
                key = binascii.a2b_base64(words[1], strict_mode=True)
                if read_string(key, 0)[0] == words[0]:
                    return key
            except ValueError:
                return None
    return None
