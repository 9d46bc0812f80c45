"""Durability: events are committed before they are delivered, and so is how far each subscription has come.

It keeps the open journal, the commit under way, the cursors to save, and the lanes that read on from the
journal. It never delivers before an event has reached its level, and never retries a journal that has
failed.
"""
