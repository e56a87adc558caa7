"""Who each process is and what it holds: uids, descriptors, filters, and what others of the same uid can do to it."""

from __future__ import annotations

import base64
import contextlib
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aed.wire.frames import Frame
from aed.wire.messages import Exited, Started
from tests.support import box, raw, wait
from tests.support.machine import DAEMON_USER, TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root


def status(pid: int) -> dict[str, str]:
    lines = (line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {line[0]: line[1].strip() for line in lines if len(line) == 2}


def descriptors(pid: int) -> list[str]:
    """What a process's descriptors are, numbers of inodes taken out."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}").split(":[")[0])
    return sorted(found)


@pytest.fixture
def session(running: Node, account: TestAccount) -> Iterator[dict[str, int]]:
    """One process of each role, with a worker that reads its input: `worker` is the command itself."""
    with running.start_client(account, "--", "cat") as client:
        wait.until(lambda: [pid for pid in running.processes()["worker"] if box.name(pid) == "cat"], "the worker")
        processes = running.processes()
        one = {role: pids[0] for role, pids in processes.items() if pids and role != "worker"}
        one["worker"] = next(pid for pid in processes["worker"] if box.name(pid) == "cat")
        yield one
        client.communicate(b"")


def test_each_process_is_who_it_should_be(session: dict[str, int], account: TestAccount) -> None:
    aed = pwd.getpwnam(DAEMON_USER)
    for role, (uid, gid, groups) in {
        "listener": (0, 0, None),
        "session": (0, 0, None),
        "zygote": (aed.pw_uid, aed.pw_gid, [aed.pw_gid]),
        "net": (aed.pw_uid, aed.pw_gid, [aed.pw_gid]),
    }.items():
        found = status(session[role])
        assert found["Uid"].split() == [str(uid)] * 4, role
        assert found["Gid"].split() == [str(gid)] * 4, role
        if groups is not None:
            assert [int(group) for group in found["Groups"].split()] == groups, role
            for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                assert int(found[name], 16) == 0, (role, name)
    # The worker's own user namespace maps the account to itself, so the node sees it as the account.
    assert status(session["worker"])["Uid"].split() == [str(account.uid)] * 4


def test_net_is_filtered(session: dict[str, int]) -> None:
    net = status(session["net"])
    assert (net["Seccomp"], net["NoNewPrivs"]) == ("2", "1")
    assert int(net["Seccomp_filters"]) >= 1


def test_one_of_the_same_uid_can_do_nothing_to_net_or_zygote(session: dict[str, int], running: Node) -> None:
    """As another net that was taken over would try it."""
    aed = pwd.getpwnam(DAEMON_USER)
    script = (
        "import ctypes, os, sys\n"
        "for pid in sys.argv[1:]:\n"
        "    for what in ('environ', 'mem', 'maps', 'auxv'):\n"
        "        try:\n"
        "            print('read', what, open(f'/proc/{pid}/{what}', 'rb').read(1))\n"
        "        except PermissionError:\n"
        "            print('refused')\n"
        "    try:\n"
        "        print('listed', os.listdir(f'/proc/{pid}/fd'))\n"
        "    except PermissionError:\n"
        "        print('refused')\n"
        "    traced = ctypes.CDLL(None).ptrace(16, int(pid), 0, 0)\n"
        "    print('refused' if traced == -1 else 'traced')\n"
    )
    done = subprocess.run(
        [
            running.prefix.python,
            "-I",
            "-c",
            script,
            str(session["net"]),
            str(session["zygote"]),
        ],
        user=aed.pw_uid,
        group=aed.pw_gid,
        extra_groups=[aed.pw_gid],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:-1] == ["refused"] * 12


def test_each_process_holds_only_what_it_needs(session: dict[str, int], running: Node) -> None:
    net = descriptors(session["net"])
    # The connection, the link and the reactor's own pair; the arena of its one worker.
    assert net.count("socket") <= 4, net
    assert {name for name in net if name.startswith("/")} <= {"/dev/null", str(running.stderr_file), "/memfd:aed-rings (deleted)"}, net
    found = descriptors(session["session"])
    assert found.count("socket") <= 2, found  # the link, and the worker's door
    files = {name for name in found if name.startswith("/")}
    own = {name for name in files if name.startswith(f"{running.runtime_directory}/sessions/")}
    assert len(own) == 1, files  # the session's own directory, held against a sweep
    files -= own
    assert files <= {"/dev/null", str(running.stderr_file), str(running.audit_file), "/memfd:aed-rings (deleted)"}, files
    listening = {name for name in descriptors(session["listener"]) if name.startswith("/")}
    assert listening <= {"/dev/null", str(running.stderr_file), str(running.audit_file)}, listening
    assert len(descriptors(session["worker"])) == 3


def inodes(pid: int) -> set[str]:
    """The sockets of a process."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if target.startswith("socket:"):
                found.add(target[8:-1])
    return found


def test_only_net_has_the_connection_and_only_the_listener_listens(session: dict[str, int], running: Node) -> None:
    port = f":{running.port:04X}"
    owners: dict[str, set[str]] = {"listening": set(), "connected": set()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(port):
            kind = "listening" if words[3] == "0A" else "connected"
            owners[kind] |= {role for role, pid in session.items() if words[9] in inodes(pid)}
    assert owners == {"listening": {"listener"}, "connected": {"net"}}


def test_the_identity_key_is_in_no_process_that_lives(session: dict[str, int], running: Node) -> None:
    """Only the issuer reads it, and ends. Nets see the leaf's key, which is good for a day."""
    pem = (running.directory / "state" / "identity.pem").read_bytes()
    assert (running.directory / "state" / "identity.pem").stat().st_mode & 0o777 == 0o600
    secret = pem.split(b"-----BEGIN PRIVATE KEY-----")[1].split(b"\n")[1]
    for role in ("listener", "zygote", "net", "session"):
        assert secret not in memory(session[role]), role


def memory(pid: int) -> bytes:
    """All private writable memory of a process."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if line.split()[1].startswith("rw"):
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                with contextlib.suppress(OSError, OverflowError):
                    file.seek(start)
                    parts.append(file.read(end - start))
    return b"".join(parts)


def test_the_leafs_key_is_not_in_the_zygote(session: dict[str, int]) -> None:
    """Or every later net, and every checker, would inherit it with the zygote's memory."""
    keys = set(re.findall(rb"-----BEGIN PRIVATE KEY-----\n([A-Za-z0-9+/=\n]+)\n-----END PRIVATE KEY-----", memory(session["listener"])))
    assert keys, "this looks where keys are"
    (leaf,) = keys
    zygote = memory(session["zygote"])
    der = base64.b64decode(leaf)
    secret = ec_secret(der)
    assert leaf.splitlines()[1] not in zygote
    assert der not in zygote
    assert secret not in zygote
    assert secret in memory(session["net"]) or secret[::-1] in memory(session["net"]), "and net has it"


def ec_secret(der: bytes) -> bytes:
    """The secret number of an EC key."""
    key = serialization.load_der_private_key(der, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")


@pytest.mark.deadline(90)
def test_300_short_workers_leave_no_zombie_and_no_descriptor(running: Node, account: TestAccount) -> None:
    with raw.connect(running) as client:
        client.login(account)

        def run(number: int) -> None:
            client.send(raw.start("true", worker=number))
            ended, streams = False, 3
            while not ended or streams:
                item = client.next()
                assert isinstance(item, Frame)
                if item.kind is Exited:
                    assert Exited.decode(item.payload).status == 0
                    ended = True
                elif item.kind is not Started:
                    streams -= 1
                    assert item.kind.__name__ == "End", item.kind

        for number in range(5):
            run(number)
        processes = running.processes()
        pids = {role: processes[role][0] for role in ("net", "session")}

        def count() -> dict[str, int]:
            return {role: len(descriptors(pid)) for role, pid in pids.items()}

        def children() -> list[str]:
            return [word for pid in pids.values() for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

        wait.until(lambda: not children(), "the first workers are reaped")
        before = count()
        for number in range(5, 300):
            run(number)
        wait.until(lambda: not children(), "all workers are reaped")
        wait.until(lambda: all(number <= before[role] for role, number in count().items()), f"descriptors are as before, {before}")
        private = os.path.join(running.runtime_directory, "sessions")
        doors = [name for _, _, names in os.walk(private) for name in names]
        assert not doors, "a worker's door goes with it"
