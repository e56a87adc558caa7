"""The session: one per connection, root until its workers' exec. Decides authentication, owns grant, workers, rings and audit record.

`login` decides who comes in, `workers` and `streams` run what they ask for, `main` is the loop. Plain selectors, no Twisted; everything is
imported before the fork, for a session must stay small and must not read code late.
"""
