"""Rounds across desks: an agent on another desk answers in the round that its tick names, and in no other."""

from bus_helpers import a_signal, a_tick, an_order, virtual
from desk_kit import Desk, passes, running

from openoutcry import EventType, RetryPolicy, RoundAbstained
from openoutcry.core.barrier import Verdict
from openoutcry.links.memory_hub import MemoryHub


def two(hub, tmp_path, **fields):
    return (Desk(hub, name, tmp_path / name, **fields) for name in ("floor", "street"))


def entries(desk, event_type):
    found = desk.bus.persistence.journal.read(0, 1_000)
    return [stored for stored in found if f'"event_type":"{event_type}"'.encode() in stored.payload]


def an_agent(desk, name="momentum"):
    async def on_tick(tick):
        await desk.bus.publish_signal(a_signal(name, tick.symbol))

    desk.bus.subscribe(EventType.MARKET_DATA, on_tick, name=name)


@virtual
async def test_an_answer_to_a_round_of_another_desk_is_written_with_a_mark_that_it_votes(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    an_agent(street)
    async with running(floor, street):
        await passes(0.5)
        floor.bus.register_signal_agent("momentum")
        barrier = floor.bus.open_round("r-1")
        await floor.bus.publish(a_tick(round_id=barrier.round_id))
        await passes(0.2)
        (entry,) = entries(street, "signal")
        assert entry.header.votes
        assert b'"round_id":"r-1"' in entry.payload
        status = await street.bus.get_barrier_status()
        assert status["strays_count"] == 0
        assert status["open"] == []


@virtual
async def test_an_answer_votes_on_the_desk_of_the_round(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    an_agent(street)
    async with running(floor, street):
        await passes(0.5)
        floor.bus.register_signal_agent("momentum")
        barrier = floor.bus.open_round("r-1")
        other = floor.bus.open_round("r-0")
        await floor.bus.publish(a_tick(round_id=barrier.round_id))
        outcome = await floor.bus.wait_for_signals("r-1")
        assert outcome.valid
        assert set(outcome) == {"momentum"}
        assert other.expects("momentum")


@virtual
async def test_an_abstention_travels_too(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    verdicts = []

    def on_tick(tick):
        verdicts.append(street.bus.abstain("value", "no opinion"))

    street.bus.subscribe(EventType.MARKET_DATA, on_tick, name="value")
    async with running(floor, street):
        await passes(0.5)
        floor.bus.register_signal_agent("value")
        floor.bus.open_round("r-1")
        await floor.bus.publish(a_tick(round_id="r-1"))
        await passes(0.2)
        assert verdicts == [Verdict.ELSEWHERE]
        (entry,) = entries(street, "round_abstained")
        assert entry.header.votes
        outcome = await floor.bus.wait_for_signals("r-1")
        assert outcome.abstained == {"value": "no opinion"}


@virtual
async def test_a_dead_desks_agents_are_missing(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    an_agent(street)
    async with running(floor, street):
        await passes(0.5)
        street.transport.die()
        floor.bus.register_signal_agent("momentum", critical=True)
        floor.bus.open_round("r-1")
        await floor.bus.publish(a_tick(round_id="r-1"))
        outcome = await floor.bus.wait_for_signals("r-1")
        assert outcome.missing == {"momentum"}
        assert not outcome.valid


@virtual
async def test_an_answer_that_comes_too_late_is_late_by_the_clock_of_the_round(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    an_agent(street)
    async with running(floor, street):
        await passes(0.5)
        floor.bus.register_signal_agent("momentum")
        floor.bus.open_round("r-1", signal_timeout=1, barrier_timeout=1)
        hub.is_answering = False  # ticks pass, and the log does not
        await floor.bus.publish(a_tick(round_id="r-1"))
        outcome = await floor.bus.wait_for_signals("r-1")
        assert outcome.missing == {"momentum"}
        hub.is_answering = True
        await passes(5)
        assert outcome.late_count == 1


@virtual
async def test_an_answer_that_comes_before_its_round_counts_in_it(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await street.bus.publish_signal(a_signal("momentum", "ES", round_id="r-1"))
        await passes(1)
        floor.bus.register_signal_agent("momentum")
        floor.bus.register_signal_agent("value")
        floor.bus.open_round("r-2")
        floor.bus.open_round("r-1", roster=["momentum"])
        assert (await floor.bus.wait_for_signals("r-1")).valid


@virtual
async def test_recorded_answers_vote_again_when_the_round_opens_again_after_a_crash(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    an_agent(street)
    opened = []

    def open_round(desk):
        async def on_order(order):
            desk.bus.open_round(order.order_id, roster=["momentum"])
            await desk.bus.publish(a_tick(round_id=order.order_id))
            outcome = await desk.bus.wait_for_signals(order.order_id)
            opened.append(outcome)
            if len(opened) == 1:
                raise RuntimeError("not settled yet")

        return on_order

    floor.bus.subscribe(
        EventType.ORDER, open_round(floor), name="cio", retry=RetryPolicy(first_s=60, max_s=60)
    )
    async with running(street):
        async with running(floor):
            await passes(0.5)
            await floor.bus.publish(an_order("r-7"))
            await passes(1)
            assert len(opened) == 1
            assert opened[0].valid
        again = Desk(hub, "floor", tmp_path / "floor")
        again.bus.subscribe(EventType.ORDER, open_round(again), name="cio")
        async with running(again):
            await passes(1)
            assert len(opened) == 2
            assert opened[1].valid
            assert set(opened[1]) == {"momentum"}


@virtual
async def test_a_record_of_an_abstention_is_handed_to_nobody_who_does_not_name_it(tmp_path):
    hub = MemoryHub()
    (street, _) = two(hub, tmp_path)
    everything, named = [], []
    street.bus.subscribe("*", everything.append, name="everything")
    street.bus.subscribe(RoundAbstained, named.append, name="named")
    async with running(street):
        street.bus.abstain("value", "none", "r-1")
        await passes(0.1)
        assert everything == []
        assert [event.agent for event in named] == ["value"]
        assert not street.bus.get_status().get("unheard")


@virtual
async def test_an_abstention_takes_none_of_the_ids_of_what_a_handler_publishes(tmp_path):
    """After a crash the call is repeated, and the round may be open again by then, or not yet."""
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)

    async def on_tick(tick):
        street.bus.abstain("value", "no opinion")
        await street.bus.publish(an_order())

    street.bus.subscribe(EventType.MARKET_DATA, on_tick, name="value")
    async with running(floor, street):
        await passes(0.5)
        await floor.bus.publish(a_tick(round_id="r-1"))
        await passes(0.2)
        (own,) = entries(street, "order")
        assert own.head().event_id.endswith("-0")
        (answer,) = entries(street, "round_abstained")
        assert not answer.head().event_id.endswith(("-0", "-1"))
