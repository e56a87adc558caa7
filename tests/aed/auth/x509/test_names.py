"""Slash forms: two different names never have the same text, and what cannot be shown is refused."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from aed.auth.x509.names import slash_form
from aed.errors import Declined
from tests.aed.auth.x509.authority import name

KINDS = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.DOMAIN_COMPONENT, x509.ObjectIdentifier("1.2.3.4"))
ATTRIBUTES = st.lists(st.tuples(st.sampled_from(KINDS), st.text("a/\\=+,", min_size=1, max_size=6)), min_size=1, max_size=4)


def test_spelling() -> None:
    every = name((NameOID.DOMAIN_COMPONENT, "ch"), (NameOID.EMAIL_ADDRESS, "b@cern.ch"), (NameOID.USER_ID, "bob"), (KINDS[3], "x"))
    assert slash_form(every) == "/DC=ch/emailAddress=b@cern.ch/UID=bob/1.2.3.4=x"


def test_slash_and_backslash_are_escaped() -> None:
    assert slash_form(name((NameOID.COMMON_NAME, "host/a\\b"), (NameOID.COMMON_NAME, "é"))) == "/CN=host\\/a\\\\b/CN=é"


@given(ATTRIBUTES, ATTRIBUTES)
def test_different_names_have_different_texts(one: list[tuple[x509.ObjectIdentifier, str]], other: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    assert (slash_form(name(*one)) == slash_form(name(*other))) == (one == other)


@pytest.mark.parametrize("value", ["a\0b", "a\nb", "\x7f", "a\u202eb", "a\u2028b"])
def test_characters_that_do_not_print(value: str) -> None:
    with pytest.raises(Declined, match="do not print"):
        slash_form(name((NameOID.COMMON_NAME, value)))


def test_empty_long_and_multi_valued_names() -> None:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.USER_ID, "b")]
    for bad in (x509.Name([]), x509.Name([x509.RelativeDistinguishedName(attributes)]), name(*[(KINDS[3], "x" * 200)] * 6)):
        with pytest.raises(Declined):
            slash_form(bad)
