"""x509's check on hostile questions: it answers or declines, whatever the bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aed.auth.x509.check import check
from aed.auth.x509.client import _sign
from aed.auth.x509.messages import MAX_CERTIFICATES, MAX_CHAIN, MAX_SIGNATURE
from aed.errors import Declined
from tests.aed.auth.driver import attempt, binding
from tests.aed.auth.x509.authority import KEYS, Issued, issue, person, plain, root

BINDING = binding("x509").encode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Issued, Path]:
    ca = root()
    return issue(ca, person()), plain(tmp_path_factory.mktemp("ca"), ca)


def question(user: Issued, directory: Path) -> dict[str, Any]:
    algorithm, signature = _sign(user.key, BINDING)
    fields = {"chain": [user.der().hex()], "algorithm": algorithm, "signature": signature.hex(), "binding": BINDING.hex()}
    return {**fields, "ca_directory": str(directory), "crl": "if-present", "now": attempt("x509").now}


def declined(asked: dict[str, Any], words: str = ".") -> None:
    with pytest.raises(Declined, match=words) as caught:
        check(asked)
    assert str(caught.value).isprintable()


@given(data=st.data())
@settings(deadline=None)
def test_certificate_with_some_bytes_changed(authority: tuple[Issued, Path], data: st.DataObject) -> None:
    user, directory = authority
    der = bytearray(user.der())
    for _ in range(data.draw(st.integers(1, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    if bytes(der) != user.der():
        declined({**question(user, directory), "chain": [bytes(der).hex()]})


@given(st.lists(st.binary(max_size=80), max_size=12), st.text(max_size=20), st.binary(max_size=80))
@settings(deadline=None)
def test_noise(authority: tuple[Issued, Path], chain: list[bytes], algorithm: str, signature: bytes) -> None:
    noise = {"chain": [each.hex() for each in chain], "algorithm": algorithm, "signature": signature.hex()}
    declined({**question(*authority), **noise})


@given(signature=st.binary(min_size=1, max_size=200), algorithm=st.sampled_from(["rsa-pss-sha256", "ecdsa-sha256", "ecdsa-sha384", "ed25519", "é\n"]))
@settings(deadline=None)
def test_signature_of_noise(authority: tuple[Issued, Path], signature: bytes, algorithm: str) -> None:
    declined({**question(*authority), "signature": signature.hex(), "algorithm": algorithm}, "signature")


def test_sizes(authority: tuple[Issued, Path]) -> None:
    user, directory = authority
    good = question(user, directory)
    assert check(good)["name"] == "/DC=ch/DC=cern/CN=Bob"
    der = user.der()
    for cut in (0, 1, len(der) // 2, len(der) - 1):
        declined({**good, "chain": [der[:cut].hex()]})
    declined({**good, "chain": [(der + b"\0").hex()]})
    declined({**good, "chain": []}, "0 certificates")
    declined({**good, "chain": [der.hex()] * (MAX_CERTIFICATES + 1)}, "11 certificates")
    declined({**good, "chain": [der.hex(), bytes(MAX_CHAIN).hex()]}, "more than")
    declined({**good, "signature": bytes(MAX_SIGNATURE + 1).hex()}, "a signature of")
    declined({**good, "signature": good["signature"] + "00"})
    assert check({**good, "chain": [der.hex()] * MAX_CERTIFICATES})


@pytest.mark.parametrize("kind", KEYS)
def test_algorithm_must_fit_the_key(authority: tuple[Issued, Path], kind: str, tmp_path: Path) -> None:
    ca = root()
    good = question(issue(ca, person(), key=KEYS[kind]()), plain(tmp_path / "ca", ca))
    assert check(good)
    for other in {"rsa-pss-sha256", "ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512", "ed25519"} - {good["algorithm"]}:
        declined({**good, "algorithm": other}, "does not fit")
