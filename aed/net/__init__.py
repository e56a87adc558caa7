"""One connection's network side: TLS 1.3, frames, windows, keepalive (user aed, under seccomp).

Net carries; it decides nothing about who may do what. It holds the TLS leaf's key and no other secret, and moves stream bytes between TLS and the
rings that the session shares with it. Must not live here: authentication, accounts, workers, files.
"""
