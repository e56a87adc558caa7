"""aed: the daemon of analysis clusters. This package is the node and the protocol; the client is `aeclient`."""

__version__ = "0.1.0"
