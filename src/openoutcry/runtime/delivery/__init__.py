"""Delivery: from what was admitted to the handlers, and what becomes of their calls.

It keeps the subscriptions with their mailboxes and workers, the routes to them, dead letters, and the
newest events in memory. It never admits or refuses, and knows of a journal only what the `Durability`
protocol says.
"""
