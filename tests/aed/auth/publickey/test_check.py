"""publickey's check on hostile proofs: it answers or declines, whatever the bytes. Signatures by real ssh-keygen, and by keys in process."""

from __future__ import annotations

import binascii
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from aed.auth.publickey import keygen, sshsig
from aed.auth.publickey.check import check, fingerprint
from aed.auth.publickey.sshwire import string
from aed.errors import Declined
from tests.aed.auth.driver import binding
from tests.aed.auth.publickey.keys import KINDS, blob, generate

MESSAGE = binding().encode()


def question(key: bytes, proof: bytes, **changes: Any) -> dict[str, Any]:
    line = key[4 : 4 + int.from_bytes(key[:4], "big")] + b" " + binascii.b2a_base64(key)
    asked = {"step": "proof", "files": [["keys", line.hex()]], "peer": "192.0.2.7", "now": 0.0, "sshsig": proof.hex(), "binding": MESSAGE.hex()}
    return {**asked, "expected": None, **changes}


def declined(asked: dict[str, Any], words: str = ".") -> None:
    with pytest.raises(Declined, match=words) as caught:
        check(asked)
    assert str(caught.value).isprintable()


class Signer:
    """An ed25519 key in process, whose every byte the test can choose."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
        public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = string(b"ssh-ed25519") + string(public)

    def proof(self, data: bytes | None = None) -> bytes:
        raw = self.private.sign(sshsig.signed_data(MESSAGE) if data is None else data)
        return sshsig.envelope(self.key, string(b"ssh-ed25519") + string(raw))


GOOD = Signer()


def test_good() -> None:
    assert check(question(GOOD.key, GOOD.proof()))["fingerprint"] == fingerprint(GOOD.key)


@pytest.mark.parametrize("kind", KINDS)
def test_each_byte_of_a_real_proof_matters(tmp_path: Path, kind: str) -> None:
    path = generate(tmp_path, "key", kind)
    key, proof = blob(path), keygen.sign(str(path), MESSAGE)
    assert check(question(key, proof))
    for at in range(0, len(proof), 7):
        declined(question(key, proof[:at] + bytes((proof[at] ^ 1,)) + proof[at + 1 :]))
    for cut in range(0, len(proof), 13):
        declined(question(key, proof[:cut]))
    declined(question(key, proof + b"\0"), "trailing")


def test_namespaces_of_others_are_refused(tmp_path: Path) -> None:
    path = generate(tmp_path, "key")
    for namespace in ("git", "file", "aed-authentication-v1@AED", sshsig.NAMESPACE + "x"):
        signed = subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(path)], input=MESSAGE, capture_output=True, check=True
        ).stdout
        proof = binascii.a2b_base64(b"".join(signed.splitlines()[1:-1]))
        declined(question(blob(path), proof), "is for namespace")
        # The namespace that the envelope names is not the one that was signed.
        declined(question(blob(path), proof.replace(string(namespace.encode()), string(sshsig.NAMESPACE.encode()))), "bad signature")


def test_other_hash_version_and_reserved_field(tmp_path: Path) -> None:
    path = generate(tmp_path, "key")
    words = ["ssh-keygen", "-q", "-Y", "sign", "-O", "hashalg=sha256", "-n", sshsig.NAMESPACE, "-f", str(path)]
    signed = subprocess.run(words, input=MESSAGE, capture_output=True, check=True).stdout
    declined(question(blob(path), binascii.a2b_base64(b"".join(signed.splitlines()[1:-1]))), "hashes with 'sha256'")
    proof = GOOD.proof()
    declined(question(GOOD.key, proof[:6] + b"\0\0\0\2" + proof[10:]), "version 1")
    declined(question(GOOD.key, b"X" + proof[1:]), "is no SSHSIG")
    name = string(sshsig.NAMESPACE.encode())
    declined(question(GOOD.key, proof.replace(name + string(b""), name + string(b"x"))), "reserved")
    declined(question(GOOD.key, proof + bytes(sshsig.MAX_SIZE)), "longer than")


def test_a_signature_over_bare_bytes_is_no_proof() -> None:
    """What an ssh login, or anything but SSHSIG in our namespace, makes the agent sign."""
    declined(question(GOOD.key, GOOD.proof(MESSAGE)), "bad signature")


def test_only_the_matched_key_counts() -> None:
    """Any valid signature by a key that is not in the file, and the file's key in the envelope of another's signature."""
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
    other_key = string(b"ssh-ed25519") + string(other.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    signature = string(b"ssh-ed25519") + string(other.sign(sshsig.signed_data(MESSAGE)))
    declined(question(GOOD.key, sshsig.envelope(other_key, signature)), "no line of authorized_keys names")
    declined(question(GOOD.key, sshsig.envelope(GOOD.key, signature)), "bad signature")


def test_reasons_are_precise() -> None:
    proof = GOOD.proof()
    declined(question(GOOD.key, proof, files=[]), "no authorized_keys")
    encoded = binascii.b2a_base64(GOOD.key).hex()
    declined(question(GOOD.key, proof, files=[["f", b'from="10.0.0.0/8" ssh-ed25519 '.hex() + encoded]]), "f:1: from= does not list 192.0.2.7")
    declined(question(GOOD.key, proof, expected="00"), "another key")


def _rsa_key(key: rsa.RSAPrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return string(b"ssh-rsa") + string(_mpint(numbers.e)) + string(_mpint(numbers.n))


def _mpint(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def test_rsa_algorithms(tmp_path: Path) -> None:
    private = rsa.generate_private_key(65537, 2048)
    data = sshsig.signed_data(MESSAGE)
    for name, digest, words in (
        (b"rsa-sha2-256", hashes.SHA256(), None),
        (b"rsa-sha2-512", hashes.SHA512(), None),
        (b"ssh-rsa", hashes.SHA1(), "does not fit"),
        (b"rsa-sha2-512", hashes.SHA256(), "bad signature"),
        (b"ssh-ed25519", hashes.SHA512(), "does not fit"),
    ):
        raw = private.sign(data, padding.PKCS1v15(), digest)
        asked = question(_rsa_key(private), sshsig.envelope(_rsa_key(private), string(name) + string(raw)))
        if words is None:
            assert check(asked)["algorithm"] == name.decode()
        else:
            declined(asked, words)


def test_rsa_sizes(tmp_path: Path) -> None:
    path = tmp_path / "short"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", str(path)], check=True)
    declined(question(blob(path), keygen.sign(str(path), MESSAGE)), "1024 bits")
    signature = string(b"rsa-sha2-512") + string(b"x" * 256)
    modulus = (1 << 2047) + 1
    for exponent, number, words in (
        (65537, 1 << 20000, "bits"),
        ((1 << 64) + 1, modulus, "exponent"),
        (1, modulus, "malformed"),
        (2, modulus, "malformed"),
        (65537, modulus + 1, "."),
    ):
        key = string(b"ssh-rsa") + string(_mpint(exponent)) + string(_mpint(number))
        declined(question(key, sshsig.envelope(key, signature)), words)


def test_integers_have_one_encoding() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    key = string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(point)
    r, s = decode_dss_signature(private.sign(sshsig.signed_data(MESSAGE), ec.ECDSA(hashes.SHA256())))

    def asked(one: bytes, other: bytes, public: bytes = key) -> dict[str, Any]:
        return question(public, sshsig.envelope(public, string(b"ecdsa-sha2-nistp256") + string(string(one) + string(other))))

    def canonical(value: int) -> bytes:
        return value.to_bytes(value.bit_length() // 8 + 1, "big")

    assert check(asked(canonical(r), canonical(s)))
    for one, other in (
        (b"", canonical(s)),
        (b"\0", canonical(s)),
        (b"\0\0" + canonical(r), canonical(s)),
        (b"\xff", canonical(s)),
        (b"\1" * 40, b"\1"),
    ):
        declined(asked(one, other), "malformed")
    compressed = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    for public in (
        string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(compressed),
        string(b"ecdsa-sha2-nistp256") + string(b"nistp384") + string(point),
        string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(b"\4" + b"\1" * 64),
        string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(b"\4"),
    ):
        declined(asked(canonical(r), canonical(s), public), "malformed")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (b"ssh-ed25519-cert-v01@openssh.com", "certificate"),
        (b"sk-ssh-ed25519@openssh.com", "security key"),
        (b"ssh-dss", "of type ssh-dss"),
        (b"\xff\n", "no readable key type"),
        (b"x" * 9000, "longer than"),
    ],
)
def test_other_kinds_of_key_are_named(kind: bytes, words: str) -> None:
    declined(question(GOOD.key, sshsig.envelope(string(kind), string(b"a") + string(b"b"))), words)


def test_offer_names_the_first_permitted_key() -> None:
    other = string(b"ssh-ed25519") + string(b"x" * 32)
    asked = {**question(GOOD.key, b""), "step": "offer", "keys": [other.hex(), GOOD.key.hex()]}
    assert check(asked) == {"index": 1}
    declined(
        {**asked, "keys": [other.hex(), string(b"sk-ssh-ed25519@openssh.com").hex()]}, "no line of authorized_keys.*; offered key 1 is a security key"
    )


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_noise(data: bytes) -> None:
    declined(question(GOOD.key, data))
    declined(question(GOOD.key, sshsig.MAGIC + sshsig.VERSION + data))
    declined(question(GOOD.key, sshsig.envelope(GOOD.key, data)))
    declined({**question(GOOD.key, b""), "step": "offer", "keys": [data.hex()]})


@given(st.data())
@settings(deadline=None)
def test_keys_and_signatures_of_noise(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([b"ssh-ed25519", b"ssh-rsa", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp521"]))
    parts = data.draw(st.lists(st.one_of(st.binary(max_size=300), st.sampled_from([b"nistp256", b"\1\0\1", b"\4" + b"\1" * 64])), max_size=3))
    algorithm = data.draw(st.sampled_from([kind, b"rsa-sha2-512"]))
    key = string(kind) + b"".join(map(string, parts))
    declined(question(GOOD.key, sshsig.envelope(key, string(algorithm) + string(data.draw(st.binary(max_size=300))))))


@given(st.data())
@settings(deadline=None)
def test_good_proof_with_bytes_changed(data: st.DataObject) -> None:
    proof = bytearray(GOOD.proof())
    at = data.draw(st.integers(0, len(proof) - 1))
    proof[at] ^= data.draw(st.integers(1, 255))
    declined(question(GOOD.key, bytes(proof)))


def test_ssh_keygen_verifies_what_the_agent_path_makes(tmp_path: Path) -> None:
    """Our envelope is the real format: OpenSSH's own verifier accepts it."""
    allowed = tmp_path / "allowed"
    allowed.write_bytes(b"alice " + b"ssh-ed25519 " + binascii.b2a_base64(GOOD.key))
    armored = b"-----BEGIN SSH SIGNATURE-----\n" + binascii.b2a_base64(GOOD.proof()) + b"-----END SSH SIGNATURE-----\n"
    (tmp_path / "sig").write_bytes(armored)
    words = ["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", "alice", "-n", sshsig.NAMESPACE, "-s", str(tmp_path / "sig")]
    subprocess.run(words, input=MESSAGE, check=True, capture_output=True)
