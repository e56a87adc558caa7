"""The seccomp filters, loaded for real in forked and exec'd children: what they forbid fails, what they are for still works."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aed.errors import LocalError, Unavailable
from aed.sandbox import filters

START = """
import ctypes, errno, fcntl, mmap, os, select, signal, socket, sys
from aed.sandbox import filters
libc = ctypes.CDLL(None, use_errno=True)
other = int(sys.argv[2])
path = ctypes.create_string_buffer(b"/etc/hostname")
words = (ctypes.c_char_p * 2)(b"true", None)
filters.load(bytes.fromhex(sys.argv[1]))

def refused(name, call, *arguments):
    ctypes.set_errno(0)
    if call(*arguments) != -1 or ctypes.get_errno() != errno.EPERM:
        print(name, ctypes.get_errno(), flush=True)

def system(name, number, *arguments):
    refused(name, libc.syscall, ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
"""

REFUSED_TO_BOTH = """
system("open for writing", 2, path, os.O_WRONLY)
system("open to create", 2, path, os.O_RDONLY | os.O_CREAT)
system("openat for writing", 257, -100, path, os.O_RDWR)
system("openat2", 437, -100, path, 0, 24)
system("creat", 85, path, 0o600)
system("execve", 59, ctypes.c_char_p(b"/bin/true"), words, None)
system("execveat", 322, -100, ctypes.c_char_p(b"/bin/true"), words, None, 0)
system("kill", 62, other, 9)
system("kill self", 62, os.getpid(), 9)
system("tkill", 200, other, 9)
system("tgkill", 234, other, other, 9)
system("rt_sigqueueinfo", 129, other, 9, 0)
system("pidfd_open", 434, other, 0)
system("pidfd_send_signal", 424, 0, 9, 0, 0)
system("pidfd_getfd", 438, 0, 0, 0)
system("ptrace", 101, 16, other, 0, 0)
system("process_vm_readv", 310, other, 0, 0, 0, 0, 0)
system("process_vm_writev", 311, other, 0, 0, 0, 0, 0)
system("socket inet", 41, socket.AF_INET, socket.SOCK_STREAM, 0)
system("socket unix", 41, socket.AF_UNIX, socket.SOCK_STREAM, 0)
system("connect", 42, 0, 0, 0)
system("bind", 49, 0, 0, 0)
system("fork", 57)
system("vfork", 58)
system("clone", 56, 17, 0, 0, 0, 0)
system("clone3", 435, 0, 0)
system("memfd_create", 319, path, 0)
system("unlink", 87, path)
system("rename", 82, path, path)
system("chmod", 90, path, 0)
system("mount", 165, 0, 0, 0, 0, 0)
system("setuid", 105, 0)
system("setresuid", 117, 0, 0, 0)
system("prctl", 157, 4, 1, 0, 0, 0)
system("seccomp", 317, 0, 0, 0)
system("io_uring_setup", 425, 1, 0)
system("bpf", 321, 0, 0, 0)
system("executable mmap", 9, 0, 4096, mmap.PROT_READ | mmap.PROT_EXEC, 0x22, -1, 0)
system("executable mprotect", 10, 0, 4096, mmap.PROT_EXEC)
system("fcntl F_SETOWN", 72, 0, 8, other)
system("fcntl F_SETSIG", 72, 0, 10, 9)
system("fcntl F_SETOWN with a high bit", 72, 0, 8 | 1 << 40, other)
system("ioctl FIOSETOWN", 16, 0, 0x8901, 0)
system("ioctl TIOCSTI", 16, 0, 0x5412, path)
system("prlimit of another", 302, other, 7, 0, 0)
system("setrlimit", 160, 7, 0)
system("sendfile", 40, 1, 0, 0, 1)
"""
NET_ONLY = """
system("open", 2, path, os.O_RDONLY)
system("openat", 257, -100, path, os.O_RDONLY)
system("stat", 4, path, 0)
system("readlink", 89, path, 0, 0)
system("getdents64", 217, 0, 0, 0)
"""
CHECKER_MAY = """
assert open("/etc/hostname").read()
assert os.listdir("/etc") and os.stat("/etc") and os.path.realpath("/proc/self") and os.access("/etc", os.R_OK)
"""
BOTH_MAY = """
a, b = socket.socketpair()
a.setblocking(False)
a.send(b"x"); assert b.recv(1) == b"x"
socket.send_fds(a, [b"fd"], [0]); assert socket.recv_fds(b, 2, 1)[0] == b"fd"
poll = select.epoll(); poll.register(b.fileno()); poll.poll(0)
bytearray(50 << 20)
mmap.mmap(-1, 1 << 20).close()
os.pipe(); os.urandom(4); signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("end", flush=True)
"""


def _confined(bpf: bytes, program: str) -> subprocess.CompletedProcess[str]:
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            words = [sys.executable, "-c", START + program, bpf.hex(), str(other.pid)]
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False)
            assert other.poll() is None, "the other process was reached"
        finally:
            other.kill()
    return done


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86-64")
@pytest.mark.parametrize(("name", "program"), [("net", REFUSED_TO_BOTH + NET_ONLY), ("checker", REFUSED_TO_BOTH + CHECKER_MAY)])
def test_carriers_of_hostile_bytes_reach_nothing(compiled: dict[str, bytes], name: str, program: str) -> None:
    """`refused` prints what was not; a file given as 0 proves that even an open descriptor does not help."""
    done = _confined(compiled[name], program + BOTH_MAY)
    assert (done.stdout, done.stderr, done.returncode) == ("end\n", "", 0)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="32-bit x86 exists there only")
@pytest.mark.parametrize("name", filters.NAMES)
def test_other_architectures_are_killed(compiled: dict[str, bytes], name: str) -> None:
    """The same calls have other numbers in x32 (bit 30), which would pass a list of numbers. 31 is SIGSYS."""
    done = _confined(compiled[name], "libc.syscall(ctypes.c_long(0x40000000 | 39))\nprint('alive', flush=True)")
    assert (done.stdout, done.returncode) == ("", -31)


TLS = """
import os, socket, sys
from OpenSSL import SSL, crypto
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
import datetime
from aed.sandbox import filters
from twisted.internet import epollreactor
epollreactor.install()
from twisted.internet import interfaces, protocol, reactor
from zope.interface import implementer

key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
now = datetime.datetime.now(datetime.timezone.utc)
cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))
ours, theirs = socket.socketpair()
if os.fork() == 0:
    ours.close()
    client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), theirs)
    client.set_connect_state()
    client.do_handshake()
    client.sendall(b"ping" * 100000)
    got = b""
    while len(got) < 400000:
        got += client.recv(65536)
    assert got == b"ping" * 100000
    assert client.get_protocol_version_name() == "TLSv1.3"
    client.shutdown()
    os._exit(42)
theirs.close()
filters.load(bytes.fromhex(sys.argv[1]))
context = SSL.Context(SSL.TLS_METHOD)
context.set_min_proto_version(SSL.TLS1_3_VERSION)
context.use_privatekey(crypto.PKey.from_cryptography_key(key))
context.use_certificate(crypto.X509.from_cryptography(cert))
ours.setblocking(False)
server = SSL.Connection(context, ours)
server.set_accept_state()


@implementer(interfaces.IReadWriteDescriptor)
class Echo:
    waiting = b""
    def fileno(self):
        return ours.fileno()
    def logPrefix(self):
        return "echo"
    def connectionLost(self, reason):
        reactor.stop()
    def doRead(self):
        try:
            while True:
                self.waiting += server.recv(65536)
                reactor.addWriter(self)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            reactor.removeAll()
            reactor.stop()
    def doWrite(self):
        try:
            while self.waiting:
                self.waiting = self.waiting[server.send(self.waiting[:65536]):]
            reactor.removeWriter(self)
        except SSL.WantWriteError:
            pass


reactor.addReader(Echo())
reactor.callLater(40, os._exit, 9)
reactor.run()
print("exporter", len(server.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")), flush=True)
os._exit(0)
"""


def test_tls_under_the_net_filter(compiled: dict[str, bytes]) -> None:
    """pyOpenSSL's handshake and 400 kB each way in Twisted's epoll reactor, all that a net does, after the filter is loaded."""
    done = subprocess.run([sys.executable, "-c", TLS, compiled["net"].hex()], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("exporter 32", "", 0)


def test_a_filter_stays_through_exec_and_adds_up(compiled: dict[str, bytes]) -> None:
    program = (
        "filters.load(bytes.fromhex(sys.argv[1])); os.execv('/bin/sh', ['sh', '-c', 'grep -E NoNew.*1 /proc/self/status; mount -t tmpfs x /mnt'])"
    )
    done = _confined(compiled["worker-strict"], program)
    assert "NoNewPrivs" in done.stdout
    assert done.returncode != 0


def test_only_the_helper_loads_libseccomp(compiled: dict[str, bytes]) -> None:
    program = "import sys; from aed.sandbox import filters; filters.compile_all()\n"
    program += "print('seccomp' in open('/proc/self/maps').read(), 'pyseccomp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True).stdout == "False False\n"


@pytest.mark.parametrize("bad", [b"", b"1234567", b"x" * 8 * 5000])
def test_what_is_no_filter_is_refused_before_anything_changes(bad: bytes) -> None:
    with pytest.raises(LocalError):
        filters.load(bad)
    assert "NoNewPrivs:\t0" in Path("/proc/self/status").read_text()


def test_a_compiler_that_fails_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'Unable to find libseccomp' >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(Unavailable, match=r"pip install pyseccomp, and apt install libseccomp2\): Unable to find libseccomp"):
        filters.compile_all()
    broken.write_text("#!/bin/sh\necho '{}'\n")
    with pytest.raises(LocalError, match="printed"):
        filters.compile_all()
    monkeypatch.setattr(sys, "executable", "/nowhere")
    with pytest.raises(Unavailable, match=os.strerror(errno.ENOENT)):
        filters.compile_all()
