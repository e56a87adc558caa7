"""Workers: the environment, the sandbox and the start, signals and end of a process that runs as the user.

Lives here: what happens between the session's decision to run a command and that command's first instruction, and how it is reached and ended
afterwards. Must not live here: who may run what (`aed.authz`), the worker's streams (`aed.session`, `aed.ring`), Twisted.
"""
