"""The protocol of PROTOCOL.md, sans-IO: bytes in, events out. Imports nothing that a one-shot client cannot afford."""
