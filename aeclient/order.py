"""What a run is to do, as the command line said it.

Lives here: the value. Must not live here: the command line, the loop.
"""

from __future__ import annotations


class Order:
    """What to run: `argv`, or `shell` for the login shell, and the details of each Start."""

    __slots__ = ("argv", "environment", "inputs", "kill_on_failure", "profile", "progress", "run", "shell", "stdin")

    def __init__(
        self,
        *,
        argv: tuple[bytes, ...] = (),
        shell: bytes = b"",
        run: str = "",
        profile: str = "",
        inputs: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        kill_on_failure: bool = False,
        progress: bool = False,
        stdin: bool = True,
    ) -> None:
        self.argv = argv
        self.shell = shell
        self.run = run
        self.profile = profile
        self.inputs = inputs
        self.environment = environment or {}
        self.kill_on_failure = kill_on_failure
        self.progress = progress
        self.stdin = stdin
