"""AE_CHANNEL: messages are found whatever the cuts, and the door is the account's own."""

from __future__ import annotations

import os
import pwd
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeclient.records import MessageDecoder, pack_message
from aed.errors import RemoteError
from aed.model import Account
from aed.session.door import MAX_MESSAGE, Framing, open_door
from tests.aed.wire.strategies import cut
from tests.support import machine

MESSAGES = st.lists(st.binary(max_size=20), max_size=8)


@given(MESSAGES, st.data())
def test_any_cut_stands_at_the_same_place(messages: list[bytes], data: st.DataObject) -> None:
    """The session follows what the two programs' own decoders see."""
    stream = b"".join(map(pack_message, messages))
    stream = stream[: data.draw(st.integers(0, len(stream)))]
    follower, decoder = Framing(), MessageDecoder()
    for part in data.draw(cut(stream)):
        follower.feed(memoryview(part))
        list(decoder.feed(part))
        assert follower.whole == (not decoder.inside)


@given(MESSAGES)
def test_it_is_whole_between_messages_and_nowhere_else(messages: list[bytes]) -> None:
    borders, at = {0}, 0
    for message in messages:
        at += 4 + len(message)
        borders.add(at)
    follower = Framing()
    for offset, byte in enumerate(b"".join(map(pack_message, messages)), start=1):
        follower.feed(memoryview(bytes([byte])))
        assert follower.whole == (offset in borders)


@pytest.mark.parametrize("size", [MAX_MESSAGE + 1, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_length_over_the_cap_is_refused_and_never_whole_again(size: int, step: int) -> None:
    follower = Framing()
    raw = size.to_bytes(4, "big")
    with pytest.raises(RemoteError, match="the cap is"):
        for at in range(0, 4, step):
            follower.feed(memoryview(raw[at : at + step]))
    assert not follower.whole


def test_the_longest_message_is_followed_without_being_kept() -> None:
    follower = Framing()
    follower.feed(memoryview(MAX_MESSAGE.to_bytes(4, "big")))
    part = memoryview(bytes(1 << 20))
    for _ in range(MAX_MESSAGE >> 20):
        assert not follower.whole
        follower.feed(part)
    assert follower.whole


def me() -> Account:
    entry = pwd.getpwuid(os.geteuid())
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, groups=(entry.pw_gid,), home=entry.pw_dir, shell=entry.pw_shell)


def test_a_door_is_for_its_account_only_and_does_not_block(tmp_path: Path) -> None:
    path = str(tmp_path / "w0")
    mask = os.umask(0o022)
    os.umask(mask)
    with open_door(path, me()) as door:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert not os.get_inheritable(door.fileno())
        with pytest.raises(BlockingIOError):
            door.accept()
        with socket.socket(socket.AF_UNIX) as program:
            program.connect(path)
            door.accept()[0].close()
    after = os.umask(mask)
    assert after == mask


def test_a_name_that_is_taken_is_not_replaced(tmp_path: Path) -> None:
    """Nor followed: a worker of the same account may have put a link there."""
    (tmp_path / "w0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="in use"):
        open_door(str(tmp_path / "w0"), me())
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.root
def test_root_makes_it_with_the_accounts_rights(tmp_path: Path, account: machine.TestAccount) -> None:
    entry = pwd.getpwnam(account.name)
    theirs = Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, groups=(entry.pw_gid,), home=entry.pw_dir, shell=entry.pw_shell)
    home = Path(entry.pw_dir)
    with open_door(str(home / "w0"), theirs):
        status = os.stat(home / "w0")
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (entry.pw_uid, entry.pw_gid, 0o600)
    os.unlink(home / "w0")
    with pytest.raises(PermissionError):
        open_door(str(tmp_path / "w0"), theirs)
    assert os.getresuid() == (0, 0, 0)
    assert os.getresgid() == (0, 0, 0)
