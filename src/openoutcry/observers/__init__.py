"""What looks at a bus from outside: figures, traces and logs as other programs read them; nothing on the hot path.

Nothing here knows the runtime: what is read of a bus, or of its journal, is handed in.
"""
