"""What a user calls: `EventBus`, `bus.admin`, and the start and stop of the parts behind them.

It keeps the public face and its promises in docstrings, puts the parts together, and orders their life. It
never decides about an event: it asks the room that does.
"""
