"""Tests; the tree mirrors aed/."""
