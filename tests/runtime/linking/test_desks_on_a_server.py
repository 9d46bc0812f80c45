"""Desks on a real server, in real time: what the tests in virtual time say holds there too."""

import asyncio

from bus_helpers import a_signal, a_tick, an_order
from durable_kit import settings
from nats_kit import a_firm, a_link, eventually

from openoutcry import EventBus, EventType, KillSwitchEvent

LATE_S = 60.0


def a_desk(servers, firm, name, path):
    link = a_link(servers, firm, name, imports="*", lease_s=60)
    return EventBus(
        persistence_config=settings(path=path / name),
        link=link,
        signal_timeout=LATE_S,
        barrier_timeout=LATE_S,
    )


async def joined(servers, tmp_path):
    """A firm of two desks: what goes from one to the other, and back."""
    firm = a_firm()
    floor, street = (a_desk(servers, firm, name, tmp_path) for name in ("floor", "street"))
    switches, orders = [], []
    floor.subscribe(EventType.KILL_SWITCH, switches.append, name="floor.halts")
    street.subscribe(EventType.KILL_SWITCH, switches.append, name="street.halts")
    floor.subscribe(EventType.ORDER, orders.append, name="floor.orders")

    async def momentum(tick):
        await street.publish_signal(a_signal("momentum", tick.symbol))

    street.subscribe(EventType.MARKET_DATA, momentum, name="momentum")
    releaser = street.releaser("officer")
    floor.register_signal_agent("momentum", critical=True)
    try:
        await floor.start()
        await street.start()
        sender = floor._lifecycle.linking.tick_sender
        await eventually(lambda: sender._wanted)
        floor.open_round("r-1")
        await floor.publish(a_tick(round_id="r-1"))
        outcome = await floor.wait_for_signals("r-1")
        assert outcome.valid
        switch = KillSwitchEvent(reason="limit")
        await floor.publish(switch)
        await eventually(lambda: len(switches) == 2)
        assert [halt.event_id for halt in street.halted()] == [switch.event_id]
        await releaser.release(reason="seen to")
        await eventually(lambda: not floor.halted() and len(switches) == 4)
        await street.publish_many([an_order(f"o-{number}") for number in range(200)])
        await eventually(lambda: len(orders) == 200)
        assert [order.order_id for order in orders] == [f"o-{number}" for number in range(200)]
        await eventually(lambda: floor._lifecycle.linking.standing().word == "up")
    finally:
        await street.stop(1)
        await floor.stop(1)


def test_two_desks_on_one_node(one_node, tmp_path):
    asyncio.run(joined(one_node, tmp_path))


def test_two_desks_on_a_cluster(three_nodes, tmp_path):
    asyncio.run(joined(three_nodes, tmp_path))
