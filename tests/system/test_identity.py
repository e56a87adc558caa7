"""Which node it is: pinned on first use, refused when it changed, or vouched for by a site's CA."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root


@pytest.fixture
def home(account: TestAccount) -> Iterator[TestAccount]:
    """An account that knows no node."""
    file, aside = known(account), known(account).with_suffix(".aside")
    if file.exists():
        file.rename(aside)
    yield account
    file.unlink(missing_ok=True)
    if aside.exists():
        aside.rename(file)


def known(account: TestAccount) -> Path:
    return account.home / ".config" / "aed" / "known_nodes"


def command(node: Node, *words: str) -> list[str]:
    return [str(node.prefix.bin("aeclient")), "--node", node.name, *words]


def test_an_unknown_node_is_refused_where_nobody_can_be_asked(running: Node, home: TestAccount) -> None:
    for options in ((), ("--batch",)):
        done = home.run(*command(running, *options, "--", "touch", "never"))
        assert done.returncode == 255
        said = done.stderr.decode()
        assert f"{running.name} is not known (its identity is {running.identity})" in said
        assert f"\n{running.name} MII" in said, "the line to add is given"
    assert not known(home).exists()
    assert not (home.home / "never").exists()
    # And the line that it gives is a good one.
    line = next(line for line in said.splitlines() if line.startswith(f"{running.name} MII"))
    made = home.run("sh", "-c", f"umask 077; mkdir -p {known(home).parent}; echo '{line}' > {known(home)}")
    assert made.returncode == 0, made.stderr
    assert home.run(*command(running, "--batch", "--", "true")).returncode == 0


def test_accept_new_pins_and_then_only_that_identity_will_do(running: Node, home: TestAccount) -> None:
    done = home.run(*command(running, "--accept-new", "--", "true"))
    assert done.returncode == 0, done.stderr
    (line,) = known(home).read_text().splitlines()
    assert line.startswith(f"{running.name} ")
    assert known(home).stat().st_mode & 0o777 == 0o600
    assert home.run(*command(running, "--", "true")).returncode == 0


def changed(node: Node, account: TestAccount, other: Node) -> None:
    """What is known of `other` is written under the name of `node`."""
    assert account.run(*command(other, "--accept-new", "--", "true")).returncode == 0
    file = known(account)
    file.write_text(file.read_text().replace(other.name, node.name))


def test_a_changed_identity_is_refused_with_both_fingerprints(running: Node, node: Callable[..., Node], home: TestAccount) -> None:
    second = node()
    changed(running, home, second)
    for options in ((), ("--accept-new",)):
        done = home.run(*command(running, *options, "--", "touch", "never"))
        said = done.stderr.decode()
        assert done.returncode == 255
        assert "its identity has changed, or somebody is in between. Nothing was sent to it." in said
        assert f"known:   {second.identity}" in said
        assert f"offered: {running.identity}" in said
        assert f"remove line 1 of {known(home)}" in said
    assert not (home.home / "never").exists()


def test_the_identity_outlives_the_daemon(node: Callable[..., Node], home: TestAccount, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    first = node(config={"state_directory": state})
    first.stop()
    second = node(config={"state_directory": state})
    assert first.identity == second.identity


@contextlib.contextmanager
def terminal(node: Node, account: TestAccount, *words: str) -> Iterator[pexpect.spawn]:
    def become() -> None:
        os.setgroups([account.gid])
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)

    first, *rest = command(node, *words)
    child = pexpect.spawn(first, rest, env=account.environment(), cwd=str(account.home), preexec_fn=become, encoding="utf-8", timeout=15)
    try:
        yield child
    finally:
        child.close(force=True)


def test_on_a_terminal_the_user_is_asked(running: Node, home: TestAccount) -> None:
    with terminal(running, home, "--", "echo", "in") as child:
        child.expect_exact(running.identity)
        child.expect_exact("(yes/no)? ")
        child.sendline("no")
        child.expect_exact("was not trusted; nothing was sent to it")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 255
    assert not known(home).exists()
    with terminal(running, home, "--", "echo", "came in") as child:
        child.expect_exact("(yes/no)? ")
        child.sendline("yes")
        child.expect_exact("came in")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0
    with terminal(running, home, "--", "echo", "unasked") as child:
        assert child.expect_exact(["(yes/no)? ", "unasked"]) == 1
        child.expect(pexpect.EOF)
        child.wait()


# A site's CA.


class Authority:
    """A CA of a site, and host certificates by it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test site")])
        certificate = (
            self._builder(self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(_usage(ca=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.file = directory / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.file.chmod(0o644)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
        return (
            builder.serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def host(self, *names: x509.GeneralName) -> dict[str, str]:
        """The `tls` table of a node with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host")]), key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(_usage(ca=False), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        public, private = self.directory / "host.pem", self.directory / "host.key"
        public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private.touch(mode=0o600)
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return {"certificate": str(public), "key": str(private)}


def _usage(*, ca: bool) -> x509.KeyUsage:
    names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, **dict.fromkeys(names, False))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    for directory in (tmp_path, *tmp_path.parents[:3]):
        if str(directory).startswith(("/tmp/pytest", "/var/tmp/pytest")):  # noqa: S108
            directory.chmod(directory.stat().st_mode | 0o011)
    return Authority(tmp_path)


def test_a_host_certificate_needs_no_pin(node: Callable[..., Node], home: TestAccount, authority: Authority) -> None:
    running = node(config={"tls": authority.host(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))})
    ca = home.home / "ca.pem"
    ca.write_bytes(authority.file.read_bytes())
    done = home.run(*command(running, "--batch", "--ca", str(ca), "--", "echo", "in"))
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr
    assert not known(home).exists()
    without = home.run(*command(running, "--batch", "--", "true"))
    assert without.returncode == 255
    assert b"is not known" in without.stderr


def test_a_certificate_for_another_host_or_of_another_ca_is_refused(node: Callable[..., Node], home: TestAccount, authority: Authority) -> None:
    running = node(config={"tls": authority.host(x509.DNSName("elsewhere.example"))})
    ca = home.home / "ca.pem"
    ca.write_bytes(authority.file.read_bytes())
    done = home.run(*command(running, "--batch", "--ca", str(ca), "--", "true"))
    assert done.returncode == 255
    assert b"its certificate is not good" in done.stderr
    assert b"Nothing was sent to it" in done.stderr
    foreign = authority.directory / "foreign"
    foreign.mkdir()
    ca.write_bytes(Authority(foreign).file.read_bytes())
    done = home.run(*command(running, "--batch", "--ca", str(ca), "--", "true"))
    assert done.returncode == 255
    assert b"its certificate is not good" in done.stderr
    assert "login" not in {record["event"] for record in running.audit()}
