"""`make bench`: aed against OpenSSH, both on loopback, in one run."""
