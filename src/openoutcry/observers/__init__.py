"""What is seen of a bus from outside its process: figures, traces and logs, as other programs read them.

Nothing here knows the runtime: what a bus or its journal says is handed in.
"""
