"""A retry that comes due while another subscription has the bus to itself waits for the end of that, at rest."""

import asyncio

from bus_helpers import an_order, virtual

from openoutcry import EventBus, RetryPolicy


@virtual
async def test_a_due_retry_does_not_keep_the_loop_busy_while_a_suspect_has_the_bus_to_itself():
    tries: list[str] = []

    async def fails_once(event):
        tries.append(event.event_id)
        if len(tries) == 1:
            raise ValueError("the first time")

    async def other(_event):
        pass

    async with EventBus() as bus:
        bus.subscribe("order", fails_once, retry=RetryPolicy(first_s=0.01))
        suspect = bus.subscribe("fill", other)
        await bus.publish(an_order())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(tries) == 1
        bus._bus.holds.let_alone(suspect.holds)
        loop = asyncio.get_running_loop()
        turns = loop._turns_count  # type: ignore[attr-defined]
        await asyncio.sleep(5)
        assert loop._turns_count - turns < 100  # type: ignore[attr-defined]
        assert len(tries) == 1
        bus._bus.holds.end_alone()
        for subscription in bus.subscriptions:
            subscription.wake()
        await bus.join()
        assert len(tries) == 2
