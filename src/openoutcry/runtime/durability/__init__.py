"""Durability: what is published survives, and who has settled it.

Here commits are written before anything is handed out, cursors and dead letters are saved with them, and the
journal is opened, maintained, replaced and closed (`slot` alone does that). Lanes read on from it, and events
that may have killed the process are tried alone. Delivery sees all of it as one `Durability`. Nothing here
decides what is admitted, or calls a handler.
"""
