"""Rounds: the signal barrier on an event loop. Who is expected, which signal votes where, who waits.

`core.barrier` decides; this room gives it the time and wakes the waiters. It never publishes, journals or
delivers anything, and imports no other room.
"""
