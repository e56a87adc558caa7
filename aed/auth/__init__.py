"""Mechanisms: each a package with client, server and check side by side. Nothing is shared here; what mechanisms share is in `aed.interfaces`."""
