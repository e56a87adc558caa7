"""The user's `client.toml`: aliases of nodes, sets of nodes, defaults; and the resolution of `--node` to targets.

Lives here: where the user's configuration is, its checks, `resolve`. Must not live here: ssh's configuration (`ssh_config.py`), connections.
On the fast path: without a file nothing is imported but `target.py`; with one, `tomllib`.
"""

from __future__ import annotations

import os

from aeclient.target import DEFAULT_PORT, Options, Target, check_groups, check_host, check_name, check_port, parse_address
from aed.errors import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

_KEYS = {
    "defaults": ("group", "user", "identities", "node", "nodes"),
    "nodes": ("host", "port", "user", "group", "identities", "via"),
}


class Settings:
    """The values that a node or the defaults give; None and () where they say nothing. `where` is the place for messages."""

    __slots__ = ("group", "host", "identities", "nodes", "port", "user", "via", "where")

    def __init__(self, where: str = "") -> None:
        self.where = where
        self.host: str | None = None
        self.port: int | None = None
        self.user: str | None = None
        self.group: str | None = None
        self.identities: tuple[str, ...] = ()
        self.via: str | None = None
        self.nodes: tuple[str, ...] = ()


class Config:
    """A checked `client.toml`."""

    __slots__ = ("defaults", "nodes", "sets")

    def __init__(self) -> None:
        self.defaults = Settings()
        self.nodes: dict[str, Settings] = {}
        self.sets: dict[str, tuple[str, ...]] = {}

    def resolve(self, text: str, options: Options) -> tuple[Target, ...]:
        """The targets that `--node TEXT` means (comma-separated; an empty text means the default nodes), each once, in order.

        An empty result means that no node was named anywhere: the embedded node. ssh's configuration is not in it yet (`ssh_config.complete`).
        """
        if not text and options.via is not None:
            return (self._target(options.via, "", None, None, Settings(), options),)
        words = text.split(",") if text else self.defaults.nodes
        where = "--node" if text else self.defaults.where
        found: dict[tuple[object, ...], Target] = {}
        for word in words:
            for target in self._expand(where, word, None, None, options):
                found.setdefault((target.host.lower(), target.port, target.user, target.via), target)
        return tuple(found.values())

    def _expand(self, where: str, word: str, user: str | None, port: int | None, options: Options) -> Iterator[Target]:
        own_user, name, own_port = parse_address(where, word)
        # what was written first and outermost is what the user typed, so `alice@t3` means alice on every node of t3
        user, port = user or own_user, port or own_port
        if name in self.sets:
            for member in self.sets[name]:
                yield from self._expand(where, member, user, port, options)
        else:
            yield self._target(name, name, user, port, self.nodes.get(name, Settings()), options)

    def _target(self, name: str, host: str, user: str | None, port: int | None, node: Settings, options: Options) -> Target:
        return Target(
            name,
            node.host or host,
            port or node.port or DEFAULT_PORT,
            user=user or options.user or node.user or self.defaults.user,
            group=options.group or node.group or self.defaults.group,
            identities=options.identities or node.identities or self.defaults.identities,
            via=options.via or node.via,
        )


def directory() -> str:
    """aed's directory in the user's configuration. A relative XDG_CONFIG_HOME is ignored, as its specification demands."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return os.path.join(base if base.startswith("/") else os.path.expanduser("~/.config"), "aed")


def check_private(path: str, status: os.stat_result) -> None:
    """Refuse a file that another account could have written: it names commands to run and identities to trust."""
    if status.st_uid not in (0, os.getuid()):
        raise Misconfigured(f"{path}:1: belongs to uid {status.st_uid}; it must belong to you or to root")
    if status.st_mode & 0o022:
        raise Misconfigured(f"{path}:1: others may write to it (mode {status.st_mode & 0o777:o}); run: chmod go-w {path}")


def resolve(text: str, options: Options) -> tuple[Target, ...]:
    """`Config.resolve` with the user's own file."""
    return load().resolve(text, options)


def load(path: str | None = None) -> Config:
    """The configuration in `path` (default: the user's `client.toml`); an absent file is an empty configuration."""
    path = path or os.path.join(directory(), "client.toml")
    try:
        with open(path, "rb") as file:
            check_private(path, os.fstat(file.fileno()))
            raw = file.read()
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise Misconfigured(f"{path}:1: cannot be read: {error.strerror}") from None
    return _Reader(path, raw).config()


class _Reader:
    """Turns one file's text into a `Config`, or raises the first fault with its line."""

    def __init__(self, path: str, raw: bytes) -> None:
        import tomllib

        from aeclient.toml_lines import lines

        self.path = path
        try:
            self.text = raw.decode()
            self.tables = tomllib.loads(self.text)
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(10) + 1
            raise Misconfigured(f"{path}:{line}: is not UTF-8; save it as UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            message, _, at = str(error).partition(" (at ")
            number = at.split(",")[0].removeprefix("line ")
            # "(at end of document)" has no number
            line = int(number) if number.isdigit() else raw.count(10) + 1
            raise Misconfigured(f"{path}:{line}: is not TOML: {message}") from None
        self.lines = lines(self.text)

    def config(self) -> Config:
        config = Config()
        for name, table in self.tables.items():
            if name not in ("defaults", "nodes", "sets"):
                self.fault((name,), f"is unknown; the tables are [defaults], [nodes.NAME] and [sets]{_nearest(name, ('defaults', 'nodes', 'sets'))}")
            if not isinstance(table, dict):
                self.fault((name,), f"must be a table, [{name}]")
        config.defaults = self.settings(("defaults",), self.tables.get("defaults", {}))
        for name, node in self.tables.get("nodes", {}).items():
            check_name(self.place(("nodes", name)), name, "node")
            if not isinstance(node, dict):
                self.fault(("nodes", name), f'must be a table: [nodes.{name}] with host = "..." under it')
            config.nodes[name] = self.settings(("nodes", name), node)
        for name, members in self.tables.get("sets", {}).items():
            place = self.place(("sets", name))
            check_name(place, name, "set")
            if name in config.nodes:
                self.fault(("sets", name), "is a node's name too; rename one of them")
            config.sets[name] = self.strings(("sets", name), members)
            for member in config.sets[name]:
                parse_address(place, member)
        for name in config.sets:
            self.refuse_loop(config.sets, name, (name,))
        return config

    def refuse_loop(self, sets: dict[str, tuple[str, ...]], name: str, seen: tuple[str, ...]) -> None:
        for member in sets[name]:
            inner = parse_address("", member)[1]
            if inner in seen:
                self.fault(("sets", seen[0]), f"contains itself ({' > '.join((*seen, inner))}); take one of them out")
            if inner in sets:
                self.refuse_loop(sets, inner, (*seen, inner))

    def settings(self, at: tuple[str, ...], table: dict[str, object]) -> Settings:
        settings = Settings(self.place(at))
        for key, value in table.items():
            here = (*at, key)
            known = _KEYS[at[0]]
            if key not in known:
                self.fault(here, f"is unknown; known here are {', '.join(known)}{_nearest(key, known)}")
            if key == "port":
                settings.port = check_port(self.place(here), value if type(value) is int else repr(value))
            elif key == "identities":
                settings.identities = tuple(self.file(here, name) for name in self.strings(here, value))
            elif key == "nodes":
                settings.nodes = self.strings(here, value)
            else:
                self.single(settings, here, self.string(here, value))
        for name in settings.nodes:
            parse_address(self.place(at), name)
        return settings

    def single(self, settings: Settings, here: tuple[str, ...], value: str) -> None:
        place = self.place(here)
        match here[-1]:
            case "host":
                settings.host = check_host(place, value)
            case "user":
                settings.user = check_name(place, value, "user")
            case "group":
                settings.group = check_groups(place, value)
            case "via":
                settings.via = value
            case "node":
                settings.nodes = (value,)

    def string(self, here: tuple[str, ...], value: object) -> str:
        if not isinstance(value, str) or not value or not value.isprintable():
            self.fault(here, f'{value!r} must be text in quotes, neither empty nor with control characters, as {here[-1]} = "..."')
        return value

    def strings(self, here: tuple[str, ...], value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            self.fault(here, f'{value!r} must be a list of texts, as {here[-1]} = ["...", "..."]')
        return tuple(self.string(here, item) for item in value)

    def file(self, here: tuple[str, ...], name: str) -> str:
        path = os.path.expanduser(name)
        if not path.startswith("/"):
            self.fault(here, f"{name!r} depends on the directory you are in; begin it with / or ~/")
        return path

    def place(self, at: tuple[str, ...]) -> str:
        # a key inside an inline table, or one that is absent, is at its table's line
        line = next((self.lines[at[:depth]] for depth in range(len(at), 0, -1) if at[:depth] in self.lines), 1)
        return f"{self.path}:{line}: {'.'.join(part if part.isprintable() else repr(part) for part in at)}"

    def fault(self, at: tuple[str, ...], text: str) -> NoReturn:
        raise Misconfigured(f"{self.place(at)}: {text}")


def _nearest(word: str, known: tuple[str, ...]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""
