"""Durability: events are committed before they are delivered, and so is how far each subscription has come.

It keeps the open journal, the current commit, the cursors to save, and the lanes that read on from the
journal; `slot` alone opens, replaces and closes it. It never delivers before an event has reached its level,
and never retries a journal that has failed. Delivery sees all of it as one `Durability`.
"""
