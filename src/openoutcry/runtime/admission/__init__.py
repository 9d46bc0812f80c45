"""Admission: what is let in, what is refused and why, and who has to wait.

It keeps the credit, the level of backpressure, the counts of what was refused, and who waits for room. It
never calls a handler, and never puts an event into a mailbox: that is the dispatcher's.
"""
