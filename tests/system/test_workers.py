"""What a user gets for `aeclient -- CMD`: streams, status, signals, groups of workers, and a sentence where it does not run."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from aed.wire.frames import Frame
from aed.wire.messages import Exited
from tests.support import raw, wait
from tests.support.machine import TestAccount
from tests.support.node import Node

pytestmark = pytest.mark.root


def test_the_streams_are_separate_and_the_status_is_the_commands(running: Node, account: TestAccount) -> None:
    done = running.client(account, "--", "sh", "-c", "cat; echo err >&2; exit 7", input=b"in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"in\n", b"err\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_128_and_its_number(running: Node, account: TestAccount, number: signal.Signals) -> None:
    done = running.client(account, "--", "sh", "-c", f"ulimit -c 0; kill -{number.value} $$")
    assert done.returncode == 128 + number


def test_what_does_not_exist_is_127_with_a_sentence(running: Node, account: TestAccount) -> None:
    for words, sentence in {
        ("aedt-no-such",): b"aed: aedt-no-such: command not found\n",
        ("/usr/bin/aedt-no-such",): b"aed: /usr/bin/aedt-no-such: no such file\n",
        ("",): b"aed: the command is an empty word\n",
    }.items():
        done = running.client(account, "--", *words)
        assert (done.returncode, done.stderr) == (127, sentence)


def test_what_cannot_run_is_126_with_a_sentence(running: Node, account: TestAccount) -> None:
    assert account.run("sh", "-c", "echo echo x > plain; printf '#!/usr/bin/aedt-none\\n' > lost; chmod 755 lost").returncode == 0
    done = running.client(account, "--", "./plain")
    assert (done.returncode, done.stderr) == (126, b"aed: ./plain: permission denied (not executable for this account)\n")
    done = running.client(account, "--", "./lost")
    assert done.returncode == 126
    assert b"./lost: its interpreter cannot run: /usr/bin/aedt-none" in done.stderr


def test_an_interpreter_that_the_account_cannot_read_is_named(running: Node, account: TestAccount, other: TestAccount) -> None:
    """As a Python in root's home: who installs as root sees it work, and every account fails."""
    hidden = other.home / "private"
    assert other.run("sh", "-c", "mkdir -m 700 private && cp /bin/sh private/python3").returncode == 0
    (account.home / "script").write_text(f"#!{hidden}/python3\necho never\n")
    (account.home / "script").chmod(0o755)
    done = running.client(account, "--", str(account.home / "script"))
    assert done.returncode == 126
    assert f"{account.home}/script: its interpreter cannot run: {hidden}/python3: Permission denied" in done.stderr.decode()
    direct = running.client(account, "--", f"{hidden}/python3")
    assert direct.returncode == 126
    assert b"Permission denied" in direct.stderr


def test_words_meet_no_shell_and_a_string_meets_the_login_shell(running: Node, account: TestAccount) -> None:
    assert running.client(account, "--", "echo", "$HOME;", "*").stdout == b"$HOME; *\n"
    done = running.client(account, "-c", 'echo "$0" $((6*7)) ~; exit 3')
    assert (done.returncode, done.stdout.decode()) == (3, f"/bin/bash 42 {account.home}\n")
    assert running.client(account, "--", "pwd").stdout.decode() == f"{account.home}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_worker(running: Node, account: TestAccount, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    with running.start_client(account, "--", "sh", "-c", script) as client:
        assert client.stdout is not None
        wait.read_until(client.stdout.fileno(), b"ready\n", "the worker is ready")
        client.send_signal(number)
        out, _ = client.communicate(timeout=20)  # the shell may have a word about its `sleep`, which the signal reached too
    assert (client.returncode, out) == (9, f"got {name}\n".encode())


def test_an_untrapped_interrupt_ends_the_worker(running: Node, account: TestAccount) -> None:
    with running.start_client(account, "--", "sh", "-c", "echo ready; exec sleep 1000") as client:
        assert client.stdout is not None
        wait.read_until(client.stdout.fileno(), b"ready\n", "the worker is ready")
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=20)
    assert client.returncode == 128 + signal.SIGINT


def test_three_interrupts_kill_a_stubborn_worker(running: Node, account: TestAccount) -> None:
    script = "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done"
    with running.start_client(account, "--", "sh", "-c", script) as client:
        assert client.stdout is not None
        wait.read_until(client.stdout.fileno(), b"ready\n", "the worker is ready")
        for _ in range(2):
            client.send_signal(signal.SIGINT)
            wait.read_until(client.stdout.fileno(), b"no\n", "the worker refuses")
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=20)
    assert client.returncode == 128 + signal.SIGKILL


# Many.


def test_many_workers_have_numbers_and_only_the_first_has_input(running: Node, account: TestAccount) -> None:
    script = 'echo "$AE_WORKER of $AE_WORKERS: $(cat)"; printf "no newline" >&2'
    done = running.client(account, "--workers", "3", "--", "sh", "-c", script, input=b"hello")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.decode().splitlines()) == ["[0] 0 of 3: hello", "[1] 1 of 3: ", "[2] 2 of 3: "]
    assert sorted(done.stderr.decode().splitlines()) == [f"[{number}] no newline" for number in range(3)]


def test_workers_are_spread_over_nodes_and_counted_on_each(node: Callable[..., Node], running: Node, account: TestAccount) -> None:
    second = node(config={"node_name": "second"})
    for one in (running, second):
        assert one.client(account, "--", "true").returncode == 0  # both are pinned from here on
    both = f"{running.name},{second.name}"
    command = [str(running.prefix.bin("aeclient")), "--node", both, "--group", "higgs"]
    script = 'echo "$AE_WORKER/$AE_WORKERS $AE_NODE $AE_RUN"'
    total = account.run(*command, "--workers", "3", "--", "sh", "-c", script).stdout.decode().splitlines()
    words = sorted(line.split() for line in total)
    assert [(line[0], line[1], line[2] == "second") for line in words] == [
        ("[0]", "0/3", False),
        ("[1]", "1/3", True),
        ("[2]", "2/3", False),
    ], total
    assert len({line[3] for line in words}) == 1, "one run"
    each = account.run(*command, "--per-node", "2", "--", "sh", "-c", script).stdout.decode().splitlines()
    assert sorted((line.split()[1], line.split()[2] == "second") for line in each) == [("0/4", False), ("1/4", True), ("2/4", False), ("3/4", True)]


def test_the_status_is_the_first_failures(running: Node, account: TestAccount) -> None:
    """Worker 1 fails with 5; the others end with 6 only once it has."""
    script = 'if [ "$AE_WORKER" = 1 ]; then exit 5; fi; read -r line; exit 6'
    with running.start_client(account, "--workers", "2", "--", "sh", "-c", script) as client:
        assert client.stderr is not None
        said = wait.read_until(client.stderr.fileno(), b"\n", "the first failure is told")
        assert b"worker 1 on" in said
        assert b"ended with status 5" in said
        client.communicate(b"go\n", timeout=20)
    assert client.returncode == 5


def test_kill_on_failure_ends_the_others(running: Node, account: TestAccount) -> None:
    script = 'if [ "$AE_WORKER" = 1 ]; then exit 5; fi; exec sleep 1000'
    done = running.client(account, "--workers", "3", "--kill-on-failure", "--", "sh", "-c", script)
    assert done.returncode == 5
    running.wait_idle()


def test_more_workers_than_the_group_may_have_are_refused(running: Node, account: TestAccount) -> None:
    with running.start_client(account, "--group", "few", "--workers", "3", "--kill-on-failure", "--", "sleep", "1000") as client:
        _, err = client.communicate(timeout=20)
    assert client.returncode == 255
    assert b"worker 2 was not started: group few may run 2 workers in a session here, and 2 are running" in err
    running.wait_audit(lambda record: record["event"] == "worker_refused" and record["worker"] == 2, "the refusal")


# What a worker knows.


def test_the_environment_is_from_nothing(running: Node, account: TestAccount) -> None:
    hostile = [f"{name}=/tmp/x" for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "BASH_ENV", "ENV", "IFS", "KRB5CCNAME", "OPENSSL_CONF")]
    hostile += ["PATH=/tmp", "HOME=/tmp", "AE_GROUP=susy", "AE_CHANNEL=/x", "FOREIGN=1", "TZ=Asia/Tokyo", "LC_ALL=C"]
    options = [word for item in hostile for word in ("--env", item)]
    done = running.client(account, *options, "--", "env", "-0", env={"SECRET": "x", "LANG": "C.UTF-8", "TERM": "dumb"})
    seen = dict(item.split("=", 1) for item in done.stdout.decode().split("\0") if item)
    login = next(record for record in reversed(running.audit()) if record["event"] == "login")
    session = login["session"]
    private = f"{running.runtime_directory}/sessions/{session}/private"
    assert seen.pop("PWD", str(account.home)) == str(account.home)
    assert seen == {
        "HOME": str(account.home),
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": "/bin/bash",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "TERM": "dumb",
        "AE_GROUP": "higgs",
        "AE_SESSION": session,
        "AE_RUN": session,
        "AE_WORKER": "0",
        "AE_WORKERS": "1",
        "AE_NODE": login["node"],
        "AE_CHANNEL": f"{private}/w0",
        "AE_SESSION_DIR": private,
    }


def test_a_worker_has_three_descriptors_also_among_fifty(running: Node, account: TestAccount) -> None:
    script = "ls /proc/self/fd | tr '\\n' ' '"  # 3 is the directory that ls reads
    done = running.client(account, "--workers", "50", "--", "sh", "-c", script, seconds=50)
    assert done.returncode == 0, done.stderr
    assert {line.split("] ")[1].strip() for line in done.stdout.decode().splitlines()} == {"0 1 2 3"}
    assert len(done.stdout.splitlines()) == 50


# To and from the master.

MASTER = """
import sys
from aeclient.api import Master
with Master.from_environment() as master:
    for message in master:
        print(message.worker, len(message.payload), message.payload[:40].decode(), flush=True)
        if message.payload == b"ask":
            master.send(message.worker, b"answer " + str(message.worker).encode())
print("exits", {number: (end.status, end.text) for number, end in sorted(master.exits.items())}, master.status, flush=True)
sys.exit(master.status)
"""

SAY = "import os,socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(os.environ['AE_CHANNEL'])\n"


@pytest.fixture(scope="module")
def master(account: TestAccount, module_node: Node) -> str:
    """The command line of a master that prints what it gets and answers who asks."""
    (account.home / "master.py").write_text(MASTER)
    return f"{module_node.prefix.python} {account.home}/master.py"


def python(running: Node, script: str) -> list[str]:
    return ["--", str(running.prefix.python), "-c", script]


def test_messages_go_both_ways(running: Node, account: TestAccount, master: str) -> None:
    script = (
        "from aeclient.worker import channel\nwith channel() as to_master:\n    to_master.send(b'ask')\n    print(to_master.receive().decode())\n"
    )
    done = running.client(account, "--workers", "2", "--master", master, *python(running, script))
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.decode().splitlines())
    assert lines == ["0 3 ask", "1 3 ask", "[0] answer 0", "[1] answer 1", "exits {0: (0, ''), 1: (0, '')} 0"]


def test_a_shell_can_talk_to_the_master(running: Node, account: TestAccount, master: str) -> None:
    """Without a library: a length and bytes, by whatever writes to a Unix socket."""
    perl = "$s = IO::Socket::UNIX->new(Peer => $ENV{AE_CHANNEL}) or die $!; print $s <STDIN>"
    script = "printf '\\0\\0\\0\\5hello' | perl -MIO::Socket::UNIX -e '" + perl + "'"
    done = running.client(account, "--master", master, "--", "sh", "-c", script)
    assert done.stdout == b"0 5 hello\nexits {0: (0, '')} 0\n", done.stderr


def test_connections_come_one_after_the_other(running: Node, account: TestAccount, master: str) -> None:
    script = SAY + (
        "s.sendall(b'\\0\\0\\0\\3one');s.close()\nt=socket.socket(socket.AF_UNIX);t.connect(os.environ['AE_CHANNEL']);t.sendall(b'\\0\\0\\0\\3two')\n"
    )
    done = running.client(account, "--master", master, *python(running, script))
    assert done.stdout == b"0 3 one\n0 3 two\nexits {0: (0, '')} 0\n", done.stderr


def test_a_torn_message_is_not_taken_for_a_whole_one(running: Node, account: TestAccount, master: str) -> None:
    """What follows a message that was cut off cannot be told from it: the door closes, the worker goes on."""
    script = SAY + (
        "s.sendall(b'\\0\\0\\0\\3one\\0\\0\\0\\11half');s.close()\n"
        "try:\n"
        "    while True:\n"
        "        t=socket.socket(socket.AF_UNIX);t.connect(os.environ['AE_CHANNEL']);t.sendall(b'\\0\\0\\0\\3two');t.close()\n"
        "except OSError as error:\n"
        "    print('closed')\n"
    )
    done = running.client(account, "--master", master, *python(running, script))
    assert done.returncode == 0, done.stderr
    assert b"one" in done.stdout
    assert b"closed" in done.stdout
    assert b"half" not in done.stdout
    assert b"two" not in done.stdout


def test_a_message_over_the_cap_closes_the_door_only(running: Node, account: TestAccount, master: str) -> None:
    script = SAY + "s.sendall(b'\\xff\\xff\\xff\\xff'+b'x'*1000)\nprint(s.recv(1))\n"
    done = running.client(account, "--master", master, *python(running, script))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"exits {0: (0, '')} 0\n")


def test_a_message_of_32_mib_arrives(running: Node, account: TestAccount, master: str) -> None:
    script = SAY + "b=b'x'*(32<<20);s.sendall(len(b).to_bytes(4,'big')+b)\n"
    done = running.client(account, "--master", master, *python(running, script))
    assert done.stdout.decode().splitlines() == [f"0 {32 << 20} {'x' * 40}", "exits {0: (0, '')} 0"], done.stderr


def test_without_a_master_messages_go_nowhere_and_stop_nobody(running: Node, account: TestAccount) -> None:
    script = SAY + "b=b'x'*(32<<20);s.sendall(len(b).to_bytes(4,'big')+b);print('sent')\n"
    done = running.client(account, *python(running, script))
    assert (done.returncode, done.stdout) == (0, b"sent\n"), done.stderr


def test_a_master_that_dies_stops_nobody(running: Node, account: TestAccount) -> None:
    script = SAY + "b=b'x'*(32<<20);s.sendall(len(b).to_bytes(4,'big')+b);print('sent')\n"
    done = running.client(account, "--master", "false", *python(running, script))
    assert done.stdout == b"sent\n", done.stderr
    assert done.returncode == 1


# The raw protocol.


def test_each_worker_is_told_its_end_with_its_cost(running: Node, account: TestAccount) -> None:
    with raw.connect(running) as client:
        client.login(account)
        client.send(raw.start("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 4"))
        while True:
            item = client.next()
            if isinstance(item, Frame) and item.kind is Exited:
                break
        report = Exited.decode(item.payload)
    assert (report.worker, report.status, report.signal) == (0, 4, 0)
    assert 0 < report.cpu < 60e6
    assert 0 < report.wall < 60e6
    assert report.memory > 0
    end = running.wait_audit(lambda record: record["event"] == "worker_exited" and record["status"] == 4, "its end")
    assert end["cpu_seconds"] == report.cpu / 1e6
