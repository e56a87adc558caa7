"""The whole exchange of x509: real CAs, CRLs and directories, OpenSSL's verification, real check."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aed.auth.x509 import check, client, rules, server
from aed.errors import Declined, RemoteError
from tests.aed.auth.driver import CHANGES, Login, Node, attempt, binding, context, login
from tests.aed.auth.x509.authority import DAY, KEYS, NOW, Issued, crl, hashed, issue, name, person, plain, root, usage

Layout = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_user_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("X509_USER_CERT", "X509_USER_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(params=[plain, hashed], ids=["plain", "hashed"])
def layout(request: pytest.FixtureRequest) -> Layout:
    chosen: Layout = request.param
    return chosen


def enter(tmp_path: Path, directory: Path, user: Issued, *intermediates: Issued, mode: str = "if-present", **changes: Any) -> Login:
    user.write(tmp_path / ".globus", *intermediates)
    return run(tmp_path, directory, mode=mode, **changes)


def run(home: Path, directory: Path, mode: str = "if-present", trace: list[str] | None = None, identities: Any = (), **changes: Any) -> Login:
    at = attempt("x509", account=None, options={"ca_directory": str(directory), "crl": mode}, **changes)
    said = [] if trace is None else trace
    return login(Node(server.serve, check.check, at), client, context(str(home), said, "x509", identities=identities))


def refused(result: Login, words: str) -> None:
    assert result.evidence is None
    assert result.declined, "the client sent nothing"
    assert words in result.declined[0]


@pytest.mark.parametrize("kind", KEYS)
def test_each_kind_of_key(tmp_path: Path, layout: Layout, kind: str) -> None:
    ca = root(key=KEYS[kind]())
    user = issue(ca, person(), key=KEYS[kind]())
    result = enter(tmp_path, layout(tmp_path / "ca", ca), user)
    assert result.evidence, result
    assert str(result.evidence.identity) == "x509:/DC=ch/DC=cern/CN=Bob"
    assert result.evidence.own_account is None
    facts = dict(result.evidence.facts)
    assert facts["issuer"] == "/CN=Root"
    assert facts["serial"] == f"{user.certificate.serial_number:x}"
    assert facts["not_after"] == (NOW + 30 * DAY).isoformat()
    assert facts["crl"] == "absent of 1 of 1 CAs"


@pytest.mark.parametrize("field", CHANGES)
def test_each_changed_field_is_refused(tmp_path: Path, field: str) -> None:
    ca = root()
    result = enter(tmp_path, plain(tmp_path / "ca", ca), issue(ca, person()), binding=binding("x509", **{field: CHANGES[field]}))
    refused(result, "bad signature")


def test_intermediate_ca_from_the_client(tmp_path: Path, layout: Layout) -> None:
    ca = root()
    middle = issue(ca, name((NameOID.COMMON_NAME, "Middle")), ca=True)
    directory = layout(tmp_path / "ca", ca)
    assert enter(tmp_path, directory, issue(middle, person()), middle).evidence
    refused(enter(tmp_path, directory, issue(middle, person())), "unable to get local issuer")


def test_untrusted_root(tmp_path: Path, layout: Layout) -> None:
    other = root("Other")
    refused(enter(tmp_path, layout(tmp_path / "ca", root()), issue(other, person()), other), "self-signed certificate in certificate chain")


def test_root_of_the_same_name_with_another_key(tmp_path: Path, layout: Layout) -> None:
    refused(enter(tmp_path, layout(tmp_path / "ca", root()), issue(root(), person())), "certificate 0 of the chain: ")


@pytest.mark.parametrize(("start", "end", "words"), [(NOW - 9 * DAY, NOW - DAY, "expired"), (NOW + DAY, NOW + 9 * DAY, "not yet valid")])
def test_validity_is_judged_at_the_attempts_time(tmp_path: Path, start: Any, end: Any, words: str) -> None:
    ca = root()
    refused(enter(tmp_path, plain(tmp_path / "ca", ca), issue(ca, person(), start=start, end=end)), words)


def test_expired_ca(tmp_path: Path) -> None:
    ca = root(end=NOW - DAY)
    refused(enter(tmp_path, plain(tmp_path / "ca", ca), issue(ca, person())), "expired")


@pytest.mark.parametrize("mode", ["if-present", "require"])
def test_revoked(tmp_path: Path, layout: Layout, mode: str) -> None:
    ca = root()
    user, other = issue(ca, person()), issue(ca, person("Eve"))
    directory = layout(tmp_path / "ca", ca, crls=(crl(ca, user),))
    refused(enter(tmp_path, directory, user, mode=mode), "revoked")
    accepted = enter(tmp_path, directory, other, mode=mode)
    assert accepted.evidence, accepted
    assert dict(accepted.evidence.facts)["crl"] == "checked"
    assert enter(tmp_path, directory, user, mode="off").evidence


@pytest.mark.parametrize("mode", ["if-present", "require"])
def test_revoked_intermediate(tmp_path: Path, layout: Layout, mode: str) -> None:
    ca = root()
    middle = issue(ca, name((NameOID.COMMON_NAME, "Middle")), ca=True)
    user = issue(middle, person())
    crls = (crl(ca, middle), crl(middle))
    refused(enter(tmp_path, layout(tmp_path / "ca", ca, crls=crls), user, middle, mode=mode), "revoked")


def test_revocation_by_the_one_ca_that_has_a_list(tmp_path: Path, layout: Layout) -> None:
    ca = root()
    middle = issue(ca, name((NameOID.COMMON_NAME, "Middle")), ca=True)
    user, other = issue(middle, person()), issue(middle, person("Eve"))
    directory = layout(tmp_path / "ca", ca, crls=(crl(middle, user),))
    refused(enter(tmp_path, directory, user, middle), "revoked")
    accepted = enter(tmp_path, directory, other, middle)
    assert accepted.evidence
    assert dict(accepted.evidence.facts)["crl"] == "absent of 1 of 2 CAs"
    refused(enter(tmp_path, directory, other, middle, mode="require"), "no CRL")


def test_crl_required_and_absent(tmp_path: Path, layout: Layout) -> None:
    ca = root()
    refused(enter(tmp_path, layout(tmp_path / "ca", ca), issue(ca, person()), mode="require"), "no CRL of its issuer")


@pytest.mark.parametrize("mode", ["if-present", "require"])
def test_crl_that_expired_or_is_forged_refuses(tmp_path: Path, layout: Layout, mode: str) -> None:
    ca = root()
    user = issue(ca, person())
    expired = layout(tmp_path / "expired", ca, crls=(crl(ca, update=NOW - 9 * DAY, until=NOW - DAY),))
    refused(enter(tmp_path, expired, user, mode=mode), "CRL has expired")
    forged = layout(tmp_path / "forged", ca, crls=(crl(ca, key=KEYS["p256"]()),))
    refused(enter(tmp_path, forged, user, mode=mode), "CRL signature failure")


def test_crl_that_cannot_be_read_refuses(tmp_path: Path) -> None:
    ca = root()
    user = issue(ca, person())
    directory = hashed(tmp_path / "hashed", ca, crls=(crl(ca),))
    (directory / "crl0.pem").write_bytes(b"noise")
    refused(enter(tmp_path, directory, user), "no CRL of its issuer that is readable")
    refused(enter(tmp_path, plain(tmp_path / "plain", ca, crls=(b"noise",)), user), "ca0.r0 in the CA directory cannot be used")


def test_ca_directory_absent(tmp_path: Path) -> None:
    ca = root()
    refused(enter(tmp_path, tmp_path / "absent", issue(ca, person())), "cannot be read: No such file")


def _proxy_info(oid: str) -> tuple[x509.ExtensionType, bool]:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), bytes.fromhex("300c300a06082b06010505071501")), False


@pytest.mark.parametrize("oid", ["1.3.6.1.5.5.7.1.14", "1.3.6.1.4.1.3536.1.222"])
def test_proxies_are_named_and_refused(tmp_path: Path, oid: str) -> None:
    ca = root()
    user = issue(ca, person())
    subject = x509.Name([*person(), x509.NameAttribute(NameOID.COMMON_NAME, "1")])
    proxy = issue(user, subject, ca=None, extensions=(_proxy_info(oid),))
    refused(enter(tmp_path, plain(tmp_path / "ca", ca), proxy, user), "proxy certificate")


def test_legacy_proxy_is_refused(tmp_path: Path) -> None:
    ca = root()
    user = issue(ca, person())
    proxy = issue(user, x509.Name([*person(), x509.NameAttribute(NameOID.COMMON_NAME, "proxy")]), ca=None)
    refused(enter(tmp_path, plain(tmp_path / "ca", ca), proxy, user), "certificate 1 of the chain: invalid CA certificate")


RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "a CA": ("a CA's", {"ca": True, "key_usage": usage(digital_signature=True)}),
    "no digitalSignature": ("digitalSignature", {"key_usage": usage(key_encipherment=True)}),
    "keyCertSign without CA": ("no CA's", {"key_usage": usage(digital_signature=True, key_cert_sign=True)}),
    "serverAuth alone": ("clientAuth", {"eku": (ExtendedKeyUsageOID.SERVER_AUTH,)}),
    "anyExtendedKeyUsage alone": ("clientAuth", {"eku": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)}),
    "unknown critical extension": (
        "unhandled critical extension",
        {"extensions": ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)},
    ),
}


@pytest.mark.parametrize("case", RULES)
def test_rules_on_the_end_entity(tmp_path: Path, case: str) -> None:
    words, options = RULES[case]
    ca = root()
    refused(enter(tmp_path, plain(tmp_path / "ca", ca), issue(ca, person(), **options)), words)


def test_no_extended_key_usage_is_fine(tmp_path: Path) -> None:
    ca = root()
    assert enter(tmp_path, plain(tmp_path / "ca", ca), issue(ca, person(), eku=())).evidence


def test_self_signed_certificate_in_the_directory_is_nobody(tmp_path: Path) -> None:
    user = issue(None, person())
    refused(enter(tmp_path, plain(tmp_path / "ca", user), user), "issued by nobody but itself")


def test_intermediate_without_basic_constraints(tmp_path: Path) -> None:
    """OpenSSL 3 lets keyCertSign alone pass for a CA, OpenSSL 4 does not."""
    ca = root()
    middle = issue(ca, name((NameOID.COMMON_NAME, "Middle")), ca=None, eku=(), key_usage=usage(key_cert_sign=True))
    user = issue(middle, person())
    refused(enter(tmp_path, plain(tmp_path / "ca", ca), user, middle), "CA")
    with pytest.raises(Declined, match="issued by one that is no CA's"):
        rules.verified_chain([each.certificate for each in (user, middle, ca)])


def test_intermediate_for_servers_only(tmp_path: Path) -> None:
    ca = root()
    purpose = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    middle = issue(ca, name((NameOID.COMMON_NAME, "Middle")), ca=True, extensions=(purpose,))
    refused(enter(tmp_path, plain(tmp_path / "ca", ca), issue(middle, person()), middle), "of an intermediate CA")


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def test_a_ca_made_by_the_openssl_command(tmp_path: Path) -> None:
    directory, user = tmp_path / "ca", tmp_path / ".globus"
    directory.mkdir()
    user.mkdir()
    key, certificate = str(tmp_path / "key"), str(directory / "site.pem")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-noenc", "-keyout", key, "-out", certificate, "-subj", "/DC=org/CN=Site CA", "-days", "9")
    _openssl(
        "req", "-newkey", "rsa:2048", "-noenc", "-keyout", f"{user}/userkey.pem", "-out", f"{user}/req", "-subj", "/DC=org/O=HEP/CN=Bob Q. O'Neil"
    )
    _openssl("x509", "-req", "-in", f"{user}/req", "-CA", certificate, "-CAkey", key, "-CAcreateserial", "-out", f"{user}/usercert.pem", "-days", "9")
    _openssl("rehash", str(directory))
    issued = x509.load_pem_x509_certificate((user / "usercert.pem").read_bytes())
    result = run(tmp_path, directory, now=issued.not_valid_before_utc.timestamp() + 60)
    assert result.evidence, result
    assert result.evidence.identity.name == "/DC=org/O=HEP/CN=Bob Q. O'Neil"


@pytest.mark.parametrize(("kind", "bits"), [("user", 1024), ("root", 1024)])
def test_short_rsa_keys(tmp_path: Path, kind: str, bits: int) -> None:
    """cryptography makes none, so openssl does."""
    directory, user = tmp_path / "ca", tmp_path / ".globus"
    directory.mkdir()
    user.mkdir()
    key, certificate = str(tmp_path / "key"), str(directory / "ca0.pem")
    size = {"user": "2048", "root": "2048", kind: str(bits)}
    _openssl("req", "-x509", "-newkey", f"rsa:{size['root']}", "-noenc", "-keyout", key, "-out", certificate, "-subj", "/CN=Root", "-days", "9")
    _openssl("req", "-newkey", f"rsa:{size['user']}", "-noenc", "-keyout", f"{user}/userkey.pem", "-out", f"{user}/req", "-subj", "/CN=Bob")
    _openssl("x509", "-req", "-in", f"{user}/req", "-CA", certificate, "-CAkey", key, "-CAcreateserial", "-out", f"{user}/usercert.pem", "-days", "9")
    issued = x509.load_pem_x509_certificate((user / "usercert.pem").read_bytes())
    refused(run(tmp_path, directory, now=issued.not_valid_before_utc.timestamp() + 60), "RSA key of 1024 bits")


def test_sha1_signature(tmp_path: Path) -> None:
    directory, user = tmp_path / "ca", tmp_path / ".globus"
    directory.mkdir()
    user.mkdir()
    key, certificate = str(tmp_path / "key"), str(directory / "ca0.pem")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-noenc", "-keyout", key, "-out", certificate, "-subj", "/CN=Root", "-days", "9")
    _openssl("req", "-newkey", "rsa:2048", "-noenc", "-keyout", f"{user}/userkey.pem", "-out", f"{user}/req", "-subj", "/CN=Bob")
    words = ("-CA", certificate, "-CAkey", key, "-CAcreateserial", "-out", f"{user}/usercert.pem", "-days", "9", "-sha1")
    _openssl("x509", "-req", "-in", f"{user}/req", *words)
    issued = x509.load_pem_x509_certificate((user / "usercert.pem").read_bytes())
    refused(run(tmp_path, directory, now=issued.not_valid_before_utc.timestamp() + 60), "signed with sha1")


def test_named_files_and_the_key_in_the_same_file(tmp_path: Path) -> None:
    ca = root()
    directory = plain(tmp_path / "ca", ca)
    certificate = issue(ca, person()).write(tmp_path / "elsewhere", stem="grid")
    assert run(tmp_path, directory, identities=(str(certificate),)).evidence
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_bytes(certificate.read_bytes() + (tmp_path / "elsewhere" / "gridkey.pem").read_bytes())
    assert run(tmp_path, directory, identities=(str(tmp_path / "absent"), str(both))).evidence
    crt, key = tmp_path / "bob.crt", tmp_path / "bob.key"
    crt.write_bytes(certificate.read_bytes())
    os.link(tmp_path / "elsewhere" / "gridkey.pem", key)
    assert run(tmp_path, directory, identities=(str(crt),)).evidence


def test_variables_name_certificate_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = root()
    certificate = issue(ca, person()).write(tmp_path / "elsewhere")
    moved = tmp_path / "moved.key"
    (tmp_path / "elsewhere" / "userkey.pem").rename(moved)
    monkeypatch.setenv("X509_USER_CERT", str(certificate))
    monkeypatch.setenv("X509_USER_KEY", str(moved))
    assert run(tmp_path, plain(tmp_path / "ca", ca)).evidence


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_key_that_others_can_read(tmp_path: Path, mode: int) -> None:
    ca = root()
    issue(ca, person()).write(tmp_path / ".globus")
    (tmp_path / ".globus" / "userkey.pem").chmod(mode)
    trace: list[str] = []
    assert run(tmp_path, plain(tmp_path / "ca", ca), trace=trace).tried == []
    assert any(f"mode {mode:04o}" in line and "chmod 400" in line for line in trace)


def test_key_of_another_certificate(tmp_path: Path) -> None:
    ca = root()
    issue(ca, person()).write(tmp_path / ".globus")
    (tmp_path / ".globus" / "usercert.pem").write_bytes(issue(ca, person()).pem())
    trace: list[str] = []
    assert run(tmp_path, plain(tmp_path / "ca", ca), trace=trace).tried == []
    assert any("is not the key of" in line for line in trace)


@pytest.mark.parametrize(("typed", "works"), [("open sesame", True), ("let me in", False)])
def test_passphrase_is_asked(tmp_path: Path, typed: str, works: bool) -> None:
    ca = root()
    issue(ca, person()).write(tmp_path / ".globus", passphrase=b"open sesame")
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return typed

    at = attempt("x509", options={"ca_directory": str(plain(tmp_path / "ca", ca))})
    trace: list[str] = []
    result = login(Node(server.serve, check.check, at), client, context(str(tmp_path), trace, "x509", ask=ask))
    assert bool(result.evidence) == works
    assert len(asked) == 1
    assert "userkey.pem" in asked[0]
    assert not any(typed in line for line in trace)


def test_without_certificate_nothing_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from aed.auth.x509 import client; from types import SimpleNamespace as N;"
        f"list(client.credentials(N(identities=(), home={str(tmp_path)!r}, trace=print)));"
        "print([name for name in sys.modules if name.partition('.')[0] in ('cryptography', 'OpenSSL', 'typing', 'dataclasses', 're')])"
    )
    clean = {**os.environ, "PYTHONNOUSERSITE": "1"}
    lines = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _with_path(program)], env=clean, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "there is no" in lines[0]
    assert lines[1] == "[]"


def _with_path(program: str) -> str:
    return f"import sys; sys.path.insert(0, {str(Path(client.__file__).parents[3])!r}); {program}"


def test_cryptography_absent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = root()
    issue(ca, person()).write(tmp_path / ".globus")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    trace: list[str] = []
    assert run(tmp_path, tmp_path, trace=trace).tried == []
    assert any("pip install cryptography" in line for line in trace)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\0\0\0\0\0\0\0\1x", b"\0\x0b" + b"\0\0\0\1x" * 11 + b"\0\0\0\0\0\0\0\1x"])
def test_malformed_data_ends_the_connection(data: bytes) -> None:
    with pytest.raises(RemoteError):
        Node(server.serve, check.check, attempt("x509")).run(data, lambda _: b"")


ANSWER = {"name": "/CN=Bob", "issuer": "/CN=Root", "serial": "1", "not_after": "2027", "crl": "checked"}
LIES: list[Any] = [{"name": "CN=Bob"}, {"name": "/CN=Bob\n"}, {"name": 7}, {"issuer": None}, {"serial": "1" * 65}, {"name": "/CN=" + "x" * 1024}]


@pytest.mark.parametrize("lie", LIES)
def test_what_a_checker_says_is_validated(lie: dict[str, Any]) -> None:
    data = b"\0\1\0\0\0\1x\0\0\0\7ed25519\0\0\0\1x"
    assert Node(server.serve, lambda _: dict(ANSWER), attempt("x509")).run(data, lambda _: b"")
    with pytest.raises(Declined, match="the checker gave"):
        Node(server.serve, lambda _: {**ANSWER, **lie}, attempt("x509")).run(data, lambda _: b"")
