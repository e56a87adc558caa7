"""`aed --print-config`: every option, its value, and where it came from, as TOML that can be read back.

Lives here: `dump`. Must not live here: parsing.
"""

from __future__ import annotations

import json

from aed.config.identity_rules import MapRule
from aed.config.loading import Config


def dump(config: Config) -> str:
    """The whole configuration as TOML; each option has its meaning and its source as comments."""
    top = [key for key in config.options if "." not in key]
    sections = dict.fromkeys(key.partition(".")[0] for key in config.options if "." in key)
    lines = [line for key in top for line in _option(config, key)]
    for section in sections:
        lines += ["", f"[{section}]"]
        lines += [line for key in config.options if key.startswith(f"{section}.") for line in _option(config, key)]
    for rule in config.identity_map:
        lines += ["", "[[identity_map]]", *_rule(rule)]
    return "\n".join(lines) + "\n"


def _option(config: Config, key: str) -> list[str]:
    option = config.options[key]
    value = option.toml(config[key])
    return [f"# {option.doc}", f"{key.rpartition('.')[2]} = {value}  # {config.source(key)}"]


def _rule(rule: MapRule) -> list[str]:
    return [f"{rule.kind} = {json.dumps(rule.pattern, ensure_ascii=False)}", f"accounts = {json.dumps(list(rule.accounts))}"]
