"""Rounds: the signal barrier on an event loop, for one round alone and for all those of a bus.

It keeps the open rounds, those that were released lately, and the timer of their deadlines. It decides
nothing (`core.barrier` does), never sees a mailbox or the journal, and imports no other room.
"""
