"""What a user calls: `EventBus`, its lifecycle, and `bus.admin` for the operator.

`bus` makes all parts of a bus and hands each what it needs. The other modules hold what `EventBus` delegates
to: subscribing, publishing signals, inspection, starting and stopping, the operator's verbs. The rules of
admission, delivery, rounds, health and the journal are in the rooms below, which never import this one.
"""
