"""Control: a running bus answers requests at a local socket beside its journal.

It keeps the socket, its clients and the table of verbs. It knows the bus by the `Operated` protocol alone,
and nothing that a client does, sends or leaves out reaches the bus but through a verb.
"""
