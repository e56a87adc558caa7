"""How an atheris target is run: instrumented imports, seeds from the test vectors, a time limit.

Lives here: what the targets share. Must not live here: what is fuzzed. Without atheris the targets can be imported and called, for their own test.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors"
SECONDS = "30"
PACKAGES = ["aed.wire", "aed.auth.publickey.messages", "aed.auth.x509.messages", "aed.session.monitor", "aed.session.door", "aeclient.records"]


def instrumented() -> contextlib.AbstractContextManager[Any]:
    """Around the imports of what is fuzzed."""
    try:
        import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        return contextlib.nullcontext()
    manager: contextlib.AbstractContextManager[Any] = atheris.instrument_imports(include=PACKAGES)
    return manager


def vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


def session_bytes(side: str) -> bytes:
    """What one end says in the recorded session."""
    return b"".join(bytes.fromhex(step["bytes"]) for step in vectors("session.json")["steps"] if step["from"] == side)


def run(one: Callable[[bytes], None], seeds: Iterator[bytes]) -> None:
    """Fuzz `one` with the arguments of libFuzzer on the command line, for FUZZ_SECONDS (30) unless they say otherwise."""
    import atheris

    arguments = list(sys.argv)
    if not any(argument.startswith("-max_total_time") for argument in arguments):
        arguments.append(f"-max_total_time={os.environ.get('FUZZ_SECONDS', SECONDS)}")
    with tempfile.TemporaryDirectory() as directory:
        for seed in seeds:
            (Path(directory) / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        if all(argument.startswith("-") for argument in arguments[1:]):
            arguments.append(tempfile.mkdtemp(dir=directory))
        atheris.Setup([*arguments, directory], one)
        atheris.Fuzz()
