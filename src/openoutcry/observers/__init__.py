"""What is seen of a bus from outside: figures, traces and logs, in the forms that other programs read.

Nothing here knows the runtime: what a bus or its journal says is handed in.
"""
