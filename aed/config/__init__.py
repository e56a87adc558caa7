"""The configuration: one checked, frozen `Config` from a TOML file and the table of options.

Lives here: the names that others use. Must not live here: looks at the machine (aed.checks), any default (they stand in aed.config.table).
"""

from aed.config.dumping import dump
from aed.config.identity_rules import MapRule
from aed.config.loading import Config, faults, line_of, load, mechanisms_named
from aed.config.option import Fault, Kind, Option
from aed.config.table import ACCOUNT_NAME, OPTIONS, PROFILES

__all__ = [
    "ACCOUNT_NAME",
    "OPTIONS",
    "PROFILES",
    "Config",
    "Fault",
    "Kind",
    "MapRule",
    "Option",
    "dump",
    "faults",
    "line_of",
    "load",
    "mechanisms_named",
]
