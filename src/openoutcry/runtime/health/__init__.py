"""Health: what is wrong with a running bus, with whom, and what recovery does about it.

It reads the counters that delivery and durability keep anyway, watches the event loop from a thread of its
own, and acts on subscriptions, consumers and the journal. It never drops an event, no event passes through
it, and it imports neither `control` nor `api`.
"""
