"""Health: looks at a running bus, says what is wrong and with whom, and acts on it step by step.

It keeps what was seen at the last looks, the ladder of recovery of each subscription and of the journal,
and the thread that watches the loop. It never drops an event, and never asks the control socket or the api.
"""
