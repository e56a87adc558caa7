"""Whole-system tests: a real root daemon, real accounts, real clients."""
