"""The control socket: how the command line asks a running bus, and what it may ask.

`server` listens beside the journal on the bus's loop, `requests` is the table of verbs and the protocol that
the bus fulfils, `client` asks from another process. The room does nothing to a bus but through that protocol:
it does not import `api`, and what a client does wrong never reaches the bus.
"""
