"""Reading a user's files as the user: StrictModes on real files of a real account."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from aed.authz.accounts import lookup
from aed.authz.user_files import read
from aed.interfaces import ReadUserFiles
from aed.model import Account
from aed.privilege import drop_to
from tests.support import machine

pytestmark = pytest.mark.root


@pytest.fixture
def user(account: machine.TestAccount) -> Iterator[Account]:
    """The shared account with a home of this test's own, in a place where every directory above is root's."""
    found = lookup(account.name)
    assert found is not None
    home = Path("/var/tmp") / f"{machine.MARK}-{os.getpid()}-home"  # noqa: S108 - sticky, and the checks stop at the home
    home.mkdir(mode=0o755)
    os.chown(home, found.uid, found.gid)
    yield dataclasses.replace(found, home=str(home))
    shutil.rmtree(home)


def put(user: Account, name: str, content: bytes = b"content", *, mode: int = 0o600, uid: int | None = None) -> Path:
    """A file below the home, with directories of 0700 on the way; all of it the user's unless `uid` says otherwise of the file."""
    path = Path(user.home) / name
    for directory in reversed([parent for parent in path.parents if parent.is_relative_to(user.home) and str(parent) != user.home]):
        if not directory.exists():
            directory.mkdir(mode=0o700)
            os.chown(directory, user.uid, user.gid)
    path.write_bytes(content)
    os.chown(path, user.uid if uid is None else uid, user.gid)
    path.chmod(mode)
    return path


def asked(user: Account, *paths: str | Path, strict: bool = True, limit: int = 1 << 20, timeout: float = 10) -> tuple[list[bytes], list[str]]:
    """What `read` gives; afterwards no child and no descriptor of it is left."""
    before = sorted(os.listdir("/proc/self/fd"))
    answer = read(ReadUserFiles(account=user, paths=tuple(map(str, paths)), strict=strict, limit=limit, timeout=timeout))
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    return answer


def refused(user: Account, *paths: str | Path, strict: bool = True) -> str:
    contents, reasons = asked(user, *paths, strict=strict)
    assert contents == []
    return "\n".join(reasons)


def test_files_are_read_in_order_and_absent_ones_left_out(user: Account) -> None:
    put(user, ".ssh/authorized_keys", b"one")
    put(user, ".ssh/authorized_keys2", b"two\xff\0")
    paths = (".ssh/authorized_keys", "absent", ".ssh/authorized_keys/below", ".ssh/authorized_keys2")
    assert asked(user, *paths) == ([b"one", b"two\xff\0"], [])


def test_a_private_file_of_the_user_is_readable_and_one_of_root_is_not(user: Account) -> None:
    """It is the account that reads, not root."""
    put(user, "mine", mode=0o400)
    assert asked(user, "mine")[0] == [b"content"]
    put(user, "roots", uid=0)
    assert refused(user, "roots") == "'roots': Permission denied"
    assert refused(user, "/etc/shadow", strict=False) == "'/etc/shadow': Permission denied"


def test_an_absolute_path_is_checked_up_to_the_root(user: Account) -> None:
    assert asked(user, "/etc/passwd")[0] == [Path("/etc/passwd").read_bytes()]


def test_group_or_world_writable_file(user: Account) -> None:
    put(user, "keys", mode=0o620)
    assert refused(user, "keys") == "'keys': the file is writable by its group or by others (mode 0620); chmod go-w"
    put(user, "keys", mode=0o602)
    assert "mode 0602" in refused(user, "keys")
    assert asked(user, "keys", strict=False)[0] == [b"content"]


def test_group_writable_directory_or_home(user: Account) -> None:
    put(user, ".ssh/keys")
    for directory in (Path(user.home) / ".ssh", Path(user.home)):
        before = directory.stat().st_mode
        directory.chmod(0o770)
        assert refused(user, ".ssh/keys") == f"'.ssh/keys': directory '{directory}' is writable by its group or by others (mode 0770); chmod go-w"
        assert asked(user, ".ssh/keys", strict=False)[0] == [b"content"]
        directory.chmod(before)
    assert asked(user, ".ssh/keys")[0] == [b"content"]


def test_file_or_directory_of_another(user: Account) -> None:
    path = put(user, ".ssh/keys", mode=0o644, uid=user.uid + 1)
    assert refused(user, ".ssh/keys") == f"'.ssh/keys': the file belongs to uid {user.uid + 1}, neither to {user.name} nor to root"
    os.chown(path, 0, 0)
    assert asked(user, ".ssh/keys")[0] == [b"content"]
    os.chown(path.parent, user.uid + 1, 0)
    path.parent.chmod(0o755)
    assert f"'.ssh/keys': directory '{path.parent}' belongs to uid {user.uid + 1}" in refused(user, ".ssh/keys")


def test_links_are_followed_and_the_checks_run_where_they_lead(user: Account) -> None:
    put(user, "real/keys")
    link = Path(user.home) / "link"
    link.symlink_to("real/keys")
    assert asked(user, "link")[0] == [b"content"]
    (Path(user.home) / "real").chmod(0o777)
    assert "real' is writable" in refused(user, "link")


def test_a_link_to_anothers_file(user: Account, tmp_path: Path) -> None:
    other = Path("/var/tmp") / f"{machine.MARK}-{os.getpid()}-other"  # noqa: S108
    other.write_bytes(b"key of another")
    try:
        os.chown(other, user.uid + 1, user.gid)
        other.chmod(0o644)
        (Path(user.home) / "link").symlink_to(other)
        assert "link': directory '/var/tmp' is writable" in refused(user, "link")
        other.chmod(0o600)
        assert "link'" in refused(user, "link")
    finally:
        other.unlink()
    (Path(user.home) / "loop").symlink_to("loop")
    assert refused(user, "loop") == "'loop': Too many levels of symbolic links"
    (Path(user.home) / "dangling").symlink_to("nowhere")
    assert asked(user, "dangling") == ([], [])


def test_a_hard_link_to_anothers_file(user: Account) -> None:
    put(user, "original", mode=0o644, uid=user.uid + 1)
    os.link(Path(user.home) / "original", Path(user.home) / "keys")
    assert "belongs to uid" in refused(user, "keys")


def test_what_is_no_regular_file(user: Account) -> None:
    fifo = Path(user.home) / "fifo"
    os.mkfifo(fifo, 0o600)
    os.chown(fifo, user.uid, user.gid)
    assert refused(user, "fifo", strict=False) == "'fifo': is not a regular file"
    put(user, ".ssh/keys")
    assert refused(user, ".ssh") == "'.ssh': is not a regular file"
    assert asked(user, "/") == ([], [])
    assert refused(user, "/dev/zero", strict=False) == "'/dev/zero': is not a regular file"


def test_a_file_beyond_the_limit_is_refused_whole(user: Account) -> None:
    """Half an authorized_keys line can permit what the whole line does not."""
    put(user, "keys", b"x" * 101)
    assert asked(user, "keys", limit=101)[0] == [b"x" * 101]
    assert asked(user, "keys", limit=100) == ([], ["'keys': is larger than 100 bytes"])
    put(user, "keys", b"")
    assert asked(user, "keys", limit=0)[0] == [b""]
    put(user, "big", b"y" * (1 << 20))
    assert asked(user, "big", "big", "big")[0] == [b"y" * (1 << 20)] * 3


@pytest.mark.parametrize("path", ["a\0b", "\udcff", "a" * 65536, "a\nb" * 1000])
def test_odd_paths_make_one_printable_reason_at_most(user: Account, path: str) -> None:
    contents, reasons = asked(user, path)
    assert contents == [] and all(reason.isprintable() and len(reason) <= 1024 for reason in reasons)


def test_root_has_no_files_here() -> None:
    root = lookup("root")
    assert root is not None
    assert asked(root, ".bashrc") == ([], ["files of root are never read: nobody may log in as root"])


def test_a_home_that_is_not_there(user: Account) -> None:
    assert asked(dataclasses.replace(user, home="/nonexistent"), "keys") == ([], [])


def test_a_child_that_hangs_is_killed_and_reaped(user: Account) -> None:
    """No time at all: the child is there, has said nothing, and is stopped where it stands."""
    put(user, "keys")
    assert asked(user, "keys", timeout=0) == ([], [f"files of {user.name} were not read in 0 s"])


def test_a_child_that_cannot_be_made_leaves_no_descriptor(user: Account) -> None:
    """Refused by RLIMIT_NPROC, which holds for all but root: so in a process of the account."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            drop_to(user)
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            before = sorted(os.listdir("/proc/self/fd"))
            try:
                read(ReadUserFiles(account=user, paths=("keys",)))
            except BlockingIOError:
                status = 0 if sorted(os.listdir("/proc/self/fd")) == before else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("how", ["link to another's file", "directory that all can write"])
def test_a_swap_while_it_is_read_gives_nothing_else(user: Account, how: str) -> None:
    """Another process swaps the directory of a good file for a bad one, as fast as it can. What is read was checked, or it is not read."""
    home = Path(user.home)
    put(user, "d/keys", b"good")
    if how == "link to another's file":
        (home / "e").mkdir()
        (home / "e" / "keys").symlink_to(put(user, "hers", b"BAD", mode=0o644, uid=user.uid + 1))
    else:
        put(user, "e/keys", b"BAD")
        (home / "e").chmod(0o777)
    child = os.fork()
    if child == 0:
        try:
            while True:
                os.rename(home / "d", home / "tmp")
                os.rename(home / "e", home / "d")
                os.rename(home / "tmp", home / "e")
        finally:
            os._exit(0)
    try:
        answers = [read(ReadUserFiles(account=user, paths=("d/keys",) * 50)) for _ in range(40)]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    seen = {content for contents, _ in answers for content in contents}
    assert b"BAD" not in seen
    assert b"good" in seen and any(reasons for _, reasons in answers), "the swap never met a read; the test showed nothing"
