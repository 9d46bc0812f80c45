"""The pulse, the shape, distributions and rounds of a bus, read in its own process, in virtual time."""

import asyncio
from typing import Any

import msgspec
import pytest
from bus_helpers import a_signal, a_tick, an_order
from durable_kit import Faulty, a_bus

from openoutcry import Event, EventBus, KillSwitchEvent, SignalEvent
from openoutcry.core.latency import limit_ns, percentile_ns
from openoutcry.errors import ConfigError, JournalFull
from openoutcry.observers.pulse import Pulse, SubRow
from openoutcry.runtime.api.pulse import FLOWS_LOOKED_AT, HALTS_MOST, TURN
from openoutcry.runtime.control.pulse import FRESH_MOST_S, NAMES_MOST, Named, Since, watching
from openoutcry.testing import run_virtual


def row_of(pulse: Pulse, bus: EventBus, name: str) -> SubRow:
    names = [subscription.name for subscription in bus.subscriptions]
    (row,) = [row for row in pulse.rows if names[row.index] == name]
    return row


def in_virtual_time(scene: Any, **settings: Any) -> None:
    async def go() -> None:
        async with EventBus(**settings) as bus:
            await scene(bus)

    run_virtual(go())


def test_a_row_says_what_the_statistics_of_the_subscription_say() -> None:
    async def scene(bus: EventBus) -> None:
        async def on_tick(event: Any) -> None:
            if event.price > 7:
                raise ValueError("too high")

        bus.subscribe("market_data", on_tick, name="momentum", retry=False, breaker=False)
        bus.subscribe("market_data", lambda _: None, name="screen", overflow="conflate")
        for price in range(1, 11):
            await bus.publish(a_tick(float(price)))
        await bus.join()
        pulse = await bus.admin.pulse()
        for record in bus.get_handler_stats()["handlers"]:
            row = row_of(pulse, bus, record["name"])
            assert row.accepted == record["accepted"]
            assert row.handled == record["handled"]
            assert row.errors == record["errors"]
            assert row.dead == record["dead_letters"]
            assert row.state == record["state"] == "idle"
        assert row_of(pulse, bus, "momentum").error_streak == 3
        assert row_of(pulse, bus, "screen").conflated > 0
        assert (pulse.dead, pulse.published, pulse.ledger_balances) == (3, 10, True)

    in_virtual_time(scene)


def test_a_call_is_told_of_while_it_lasts_with_its_event_and_what_waits_behind_it() -> None:
    async def scene(bus: EventBus) -> None:
        async def slow(_event: Any) -> None:
            await asyncio.sleep(5)

        bus.subscribe("market_data", slow, name="llm")
        before_ns = (await bus.admin.pulse()).now_ns
        for price in (1.0, 2.0, 3.0):
            await bus.publish(a_tick(price))
        await asyncio.sleep(2)
        pulse = await bus.admin.pulse()
        row = row_of(pulse, bus, "llm")
        assert (row.state, row.in_flight, row.waiting, row.lag) == ("stalled", 1, 2, 2)
        assert row.call_event == "market_data"
        assert before_ns <= row.busy_since_ns <= pulse.now_ns - 2_000_000_000
        assert before_ns <= row.oldest_ns <= pulse.now_ns - 2_000_000_000
        await bus.join()
        row = row_of(await bus.admin.pulse(), bus, "llm")
        assert (row.state, row.busy_since_ns, row.oldest_ns, row.call_event) == ("idle", 0, 0, "")

    in_virtual_time(scene)


def test_what_holds_a_subscription_is_named() -> None:
    async def scene(bus: EventBus) -> None:
        bus.subscribe("market_data", lambda _: None, name="momentum")
        bus.admin.pause("momentum")
        await bus.publish(a_tick(1.0))
        await asyncio.sleep(0)
        row = row_of(await bus.admin.pulse(), bus, "momentum")
        assert (row.state, row.holds, row.waiting) == ("paused", ["paused"], 1)
        bus.admin.resume("momentum")

    in_virtual_time(scene)


def test_a_pulse_changes_nothing_and_the_next_has_another_number() -> None:
    async def scene(bus: EventBus) -> None:
        bus.subscribe("market_data", lambda _: None, name="momentum")
        bus.admin.pause("momentum")
        for _ in range(5):
            bus.publish_nowait(a_tick(1.0))
        before = bus.get_status()
        numbers = [(await bus.admin.pulse()).number for _ in range(3)]
        after = bus.get_status()
        assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
        for said in (before, after):
            for record in said["handlers"]["handlers"]:
                record.pop("recent")
            said.pop("health")
        assert after == before
        bus.admin.resume("momentum")

    in_virtual_time(scene)


def test_a_pulse_does_not_deliver_what_is_staged() -> None:
    async def scene(bus: EventBus) -> None:
        bus.subscribe("market_data", lambda _: None, name="momentum")
        reader = bus._lifecycle.control.reader
        bus.publish_nowait(a_tick(1.0))
        rows = reader._rows(tuple(bus._bus.router), 0, {})
        assert rows[0][1] == 0
        assert bus._admission.dispatcher.staged

    in_virtual_time(scene)


def test_the_shape_has_another_number_whenever_something_in_it_has_changed() -> None:
    async def scene(bus: EventBus) -> None:
        numbers = [(await bus.admin.pulse()).shape]

        async def note() -> None:
            numbers.append((await bus.admin.pulse()).shape)
            assert (await bus.admin.shape()).number == numbers[-1]

        def on_tick(_event: Any) -> None: ...

        bus.subscribe("market_data", on_tick, name="momentum")
        await note()
        bus.register_signal_agent("momentum")
        await note()
        bus.register_signal_agent("momentum", critical=True)
        await note()
        bus.unsubscribe("market_data", on_tick)
        await note()
        assert len(set(numbers)) == len(numbers)
        await note()
        assert numbers[-1] == numbers[-2]

    in_virtual_time(scene)


def test_the_shape_says_what_each_subscription_takes_and_asked_for() -> None:
    async def scene(bus: EventBus) -> None:
        bus.register_signal_agent("momentum", critical=True)
        bus.subscribe([SignalEvent, "market_data"], lambda _: None, name="momentum.on_any", timeout_s=None)
        bus.subscribe("*", lambda _: None, name="archive", overflow="drop_oldest", keep=True)
        shape = await bus.admin.shape()
        momentum, archive = shape.subscriptions
        assert momentum.types == ["market_data", "signal"]
        assert momentum.selectors == {"SignalEvent": "signal", "market_data": "market_data"}
        assert (momentum.agent, archive.agent) == (True, False)
        assert momentum.options == {}
        assert archive.types == ["*"]
        assert archive.options["keep"] is True
        assert "DropOldest" in archive.options["overflow"]
        assert (shape.roster, shape.critical) == (["momentum"], ["momentum"])
        assert (shape.releasers, shape.control_releaser) == (["boss", "ops"], "boss")

    in_virtual_time(scene, control_releaser="boss", kill_switch_releasers=["ops"])


def test_a_name_that_an_agent_has_taken_is_none_of_the_operators() -> None:
    bus = EventBus(control_releaser="boss", kill_switch_releasers=["ops", "risk"])
    bus.releaser("risk")
    assert bus._lifecycle.control._operator.names == {"boss", "ops"}


def test_every_start_is_another_session() -> None:
    async def go() -> None:
        bus, sessions = EventBus(), []
        for _ in range(2):
            async with bus:
                sessions.append((await bus.admin.pulse()).session)
                assert (await bus.admin.shape()).session == sessions[-1]
        assert sessions[0] != sessions[1]

    run_virtual(go())


def test_many_kill_switches_are_counted_and_few_are_told() -> None:
    async def scene(bus: EventBus) -> None:
        bus.subscribe("kill_switch", lambda _: None, name="risk")
        for number in range(50):
            await bus.publish(KillSwitchEvent(scope=f"S{number % 25}", reason="x" * 1_000))
        pulse = await bus.admin.pulse()
        assert pulse.halts_count == len(bus.halted("firm")) + 50
        assert len(pulse.halts) == HALTS_MOST
        assert len({halt.scope for halt in pulse.halts}) == HALTS_MOST
        assert max(len(halt.reason) for halt in pulse.halts) == 300

    in_virtual_time(scene)


def test_who_has_heard_a_kill_switch_goes_on_being_counted() -> None:
    async def scene(bus: EventBus) -> None:
        async def slow(_event: Any) -> None:
            await asyncio.sleep(3)

        def broken(_event: Any) -> None:
            raise ValueError("no")

        bus.subscribe("kill_switch", lambda _: None, name="risk")
        bus.subscribe("kill_switch", slow, name="llm")
        bus.subscribe("kill_switch", broken, name="broken", retry=False)
        assert (await bus.admin.pulse()).heard is None
        event = KillSwitchEvent(scope="ES")
        await bus.publish(event)
        await asyncio.sleep(1)
        heard = (await bus.admin.pulse()).heard
        assert heard is not None
        assert (heard.id, heard.total, heard.heard, heard.waiting) == (event.event_id, 3, 2, ["llm"])
        assert heard.failed == ["broken"]
        await asyncio.sleep(3)
        heard = (await bus.admin.pulse()).heard
        assert heard is not None
        assert (heard.total, heard.heard, heard.waiting) == (3, 3, [])
        assert 3_000_000_000 <= heard.slowest_ns < 3_100_000_000
        await bus.publish(KillSwitchEvent(scope="NQ"))
        await asyncio.sleep(5)
        heard = (await bus.admin.pulse()).heard
        assert heard is not None
        assert (heard.scope, heard.heard, heard.failed) == ("NQ", 3, ["broken"])

    in_virtual_time(scene)


def test_who_publishes_what_is_told_of_the_newest_events() -> None:
    async def scene(bus: EventBus) -> None:
        bus.subscribe("market_data", lambda _: None, name="momentum")
        await bus.admin.pulse()
        for number in range(FLOWS_LOOKED_AT + 50):
            await bus.publish(a_tick(1.0 + number))
        await bus.join()
        pulse = await bus.admin.pulse()
        assert (pulse.flows_seen, pulse.flows_total) == (FLOWS_LOOKED_AT, FLOWS_LOOKED_AT + 50)
        (flow,) = pulse.flows
        assert (flow.type, flow.count) == ("market_data", FLOWS_LOOKED_AT)
        assert (await bus.admin.pulse()).flows_total == 0

    in_virtual_time(scene)


def test_dead_letters_of_names_that_are_gone_are_told_apart() -> None:
    async def scene(bus: EventBus) -> None:
        def broken(_event: Any) -> None:
            raise ValueError("no")

        bus.subscribe("market_data", broken, name="gone", retry=False)
        await bus.publish(a_tick(1.0))
        await bus.join()
        bus.unsubscribe("market_data", broken)
        pulse = await bus.admin.pulse()
        assert (pulse.dead, pulse.dead_elsewhere) == (1, {"gone": 1})

    in_virtual_time(scene)


def test_letters_that_were_redriven_are_counted_no_more_without_anybody_asking_for_the_status() -> None:
    async def scene(bus: EventBus) -> None:
        fails = True

        def on_tick(_event: Any) -> None:
            if fails:
                raise ValueError("no")

        bus.subscribe("market_data", on_tick, name="momentum", retry=False, breaker=False)
        await bus.publish(a_tick(1.0))
        await bus.join()
        assert (await bus.admin.pulse()).dead == 1
        fails = False
        bus.admin.redrive("momentum")
        await bus.join()
        assert (await bus.admin.pulse()).dead == 0

    in_virtual_time(scene)


def test_a_journal_that_refuses_says_why_until_it_takes_something_again() -> None:
    async def go() -> None:
        journal = Faulty()
        async with a_bus(journal) as bus:
            journal.fail_next("write", JournalFull("the disk has no room"))
            with pytest.raises(JournalFull):
                await bus.publish(an_order())
            row = (await bus.admin.pulse()).journal
            assert row is not None
            assert (row.dead, row.refused) == ("", "the disk has no room")
            await bus.publish(an_order())
            row = (await bus.admin.pulse()).journal
            assert row is not None
            assert row.refused == ""

    run_virtual(go())


def test_the_loop_is_given_back_while_a_pulse_is_made_of_many_subscriptions() -> None:
    async def scene(bus: EventBus) -> None:
        for number in range(3 * TURN + 1):
            bus.subscribe("market_data", lambda _: None, name=f"agent-{number}")
        turns = 0
        making = asyncio.ensure_future(bus.admin.pulse())
        while not making.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 4
        assert [row.index for row in making.result().rows] == list(range(3 * TURN + 1))

    in_virtual_time(scene)


def test_distributions_leave_the_bus_raw_and_give_the_percentiles_that_it_would() -> None:
    async def scene(bus: EventBus) -> None:
        async def slow(event: Any) -> None:
            await asyncio.sleep(event.price / 1_000)

        bus.subscribe("market_data", slow, name="momentum")
        for price in range(1, 101):
            await bus.publish(a_tick(float(price)))
        await bus.join()
        found = bus.admin.buckets(["momentum", "nobody"])
        assert set(found) == {"momentum"}
        said = bus.get_handler_stats()["handlers"][0]["duration"]
        duration = found["momentum"].duration
        assert duration.count == sum(duration.buckets.values()) == said["count"] == 100
        for percent, name in ((50, "p50_us"), (99, "p99_us")):
            assert percentile_ns(duration.buckets, percent) == pytest.approx(said[name] * 1_000)
        assert duration.max_ns <= limit_ns(max(duration.buckets))

    in_virtual_time(scene)


def test_rounds_are_told_with_a_cell_for_each_agent_and_those_behind_a_number() -> None:
    async def scene(bus: EventBus) -> None:
        reader = bus._lifecycle.control.reader
        for agent in ("momentum", "value", "macro", "llm"):
            bus.register_signal_agent(agent)
        bus.open_round("r-1", quorum=2, signal_timeout=1.0, barrier_timeout=2.0)
        await bus.publish_signal(a_signal("momentum", round_id="r-1"))
        bus.abstain("value", "no data", "r-1")
        bus.heartbeat("macro")
        seen = await reader.rounds(0)
        (still,) = seen.open
        assert (still.id, still.waits_for, still.have) == ("r-1", ["llm", "macro"], ["momentum", "value"])
        assert still.barrier_due_ns - still.opened_ns == 2_000_000_000
        await bus.wait_for_signals("r-1")
        await bus.publish_signal(a_signal("llm", round_id="r-1"))
        pulse = await bus.admin.pulse()
        assert (pulse.rounds_open, pulse.rounds_released, pulse.rounds_late) == (0, {"quorate": 1}, 1)
        bus.open_round("r-2", roster=["momentum"], barrier_timeout=2.0)
        await bus.publish_signal(a_signal("momentum", round_id="r-2"))
        first, second = (await reader.rounds(0)).released
        assert (first.number, first.id, first.status, first.valid) == (1, "r-1", "quorate", True)
        words = {agent: cell[0] for agent, cell in first.cells.items()}
        assert words == {"llm": "late", "macro": "missing", "momentum": "voted", "value": "abstained"}
        assert first.cells["value"][1] == "no data"
        assert first.cells["macro"][1] is not None
        assert (second.number, second.id) == (2, "r-2")
        seen = await reader.rounds(1)
        assert [row.id for row in seen.released] == ["r-2"]
        assert seen.newest == 2

    in_virtual_time(scene)


def test_many_rounds_come_by_the_page() -> None:
    async def scene(bus: EventBus) -> None:
        reader = bus._lifecycle.control.reader
        bus.register_signal_agent("momentum")
        for number in range(250):
            bus.open_round(f"r-{number}").close()
        numbers, since = [], 0
        while (seen := await reader.rounds(since)).released:
            assert len(seen.released) <= 200
            numbers += [row.number for row in seen.released]
            since = numbers[-1]
        assert numbers == list(range(1, 251))

    in_virtual_time(scene)


class Odd:
    """A firm's own event, of which nothing can be read that the bus does not need."""

    def __init__(self) -> None:
        self.event_id, self.event_type = f"odd-{id(self)}", "odd"

    @property
    def source_agent(self) -> str:
        raise RuntimeError("nobody's business")


def test_events_whose_attributes_raise_do_no_harm() -> None:
    async def scene(bus: EventBus) -> None:
        bus.subscribe("*", lambda _: None, name="archive")
        await bus.publish(Odd())
        await bus.join()
        pulse = await bus.admin.pulse()
        assert [(flow.source, flow.type) for flow in pulse.flows] == [("", "odd")]

    in_virtual_time(scene)


class OddWord:
    """A direction of a firm's own, which cannot be told in a word."""

    @property
    def value(self) -> str:
        raise RuntimeError("it depends")


class OddOpinionEvent(Event, kw_only=True):
    event_type: str = "odd_opinion"
    symbol: str = "ES"
    direction: object = None
    confidence: object = None


def test_a_round_is_told_whatever_its_answers_hold() -> None:
    async def scene(bus: EventBus) -> None:
        bus.register_signal_agent("a")
        opened = bus.open_round()
        answer = OddOpinionEvent(
            source_agent="a", round_id=opened.round_id, direction=OddWord(), confidence=10**400
        )
        await bus.publish_signal(answer)
        await bus.wait_for_signals(opened.round_id)
        (row,) = (await bus._lifecycle.control.reader.rounds(0)).released
        assert [row.cells["a"][0], *row.cells["a"][2:]] == ["voted", "", None, "ES"]

    in_virtual_time(scene)


def test_a_pulse_is_made_anew_when_the_shape_has_changed() -> None:
    async def scene(bus: EventBus) -> None:
        verbs = watching(bus._lifecycle.control.reader)
        await verbs["pulse"].do(None, None)
        bus.subscribe("market_data", lambda _: None, name="new")
        said = {
            name: msgspec.json.decode(await verbs[name].do(None, None))["result"]
            for name in ("pulse", "shape")
        }
        assert said["pulse"]["shape"] == said["shape"]["number"]
        assert len(said["pulse"]["rows"]) == 1

    in_virtual_time(scene)


def test_many_who_ask_at_once_cost_one_pulse() -> None:
    async def scene(bus: EventBus) -> None:
        reader = bus._lifecycle.control.reader
        verbs = watching(reader)
        lines = await asyncio.gather(*(verbs["pulse"].do(None, None) for _ in range(20)))
        assert len(set(map(id, lines))) == 1
        await asyncio.sleep(0.1)
        assert verbs["pulse"].ready is not None
        assert verbs["pulse"].ready() is lines[0]
        await asyncio.sleep(0.3)
        assert verbs["pulse"].ready() is None
        again = msgspec.json.decode(await verbs["pulse"].do(None, None))
        assert again["result"]["number"] == msgspec.json.decode(lines[0])["result"]["number"] + 1

    in_virtual_time(scene)


def test_the_pulse_of_a_large_firm_is_the_answer_for_longer() -> None:
    async def scene(bus: EventBus) -> None:
        for number in range(300):
            bus.subscribe("odd", lambda _: None, name=f"agent-{number}")
        pulse = watching(bus._lifecycle.control.reader)["pulse"]
        assert pulse.ready is not None
        await pulse.do(None, None)
        await asyncio.sleep(0.4)
        assert pulse.ready() is not None
        await asyncio.sleep(0.1)
        assert pulse.ready() is None

    in_virtual_time(scene)


def test_no_pulse_is_the_answer_for_longer_than_a_second() -> None:
    assert FRESH_MOST_S <= 1


def test_who_gives_up_asking_leaves_the_others_their_pulse() -> None:
    async def scene(bus: EventBus) -> None:
        verbs = watching(bus._lifecycle.control.reader)
        first, second = (asyncio.ensure_future(verbs["pulse"].do(None, None)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert msgspec.json.decode(await second)["ok"]

    in_virtual_time(scene)


@pytest.mark.parametrize(
    ("verb", "asked"),
    [
        ("buckets", Named(verb="buckets", names=["a"] * (NAMES_MOST + 1))),
        ("rounds", Since(verb="rounds", since=-1)),
    ],
)
def test_what_asks_for_too_much_is_refused(verb: str, asked: Any) -> None:
    async def scene(bus: EventBus) -> None:
        verbs = watching(bus._lifecycle.control.reader)

        async def ask() -> None:
            found = verbs[verb].do(None, asked)
            if asyncio.iscoroutine(found):
                await found

        with pytest.raises(ConfigError):
            await ask()

    in_virtual_time(scene)


def test_where_subscriptions_come_and_go_all_the_time_the_shape_follows_at_a_bounded_pace() -> None:
    async def scene(bus: EventBus) -> None:
        for number in range(500):
            bus.subscribe("odd", lambda _: None, name=f"agent-{number}")
        verbs = watching(bus._lifecycle.control.reader)

        async def say(verb: str) -> dict[str, Any]:
            result: dict[str, Any] = msgspec.json.decode(await verbs[verb].do(None, None))["result"]
            return result

        def on_odd(_event: Any) -> None: ...

        numbers = set()
        for step in range(200):
            if step % 2:
                bus.unsubscribe("odd", on_odd)
            else:
                bus.subscribe("odd", on_odd, name="restless")
            await asyncio.sleep(0.025)
            pulse, shape = await say("pulse"), await say("shape")
            assert pulse["shape"] == shape["number"]
            assert len(pulse["rows"]) == len(shape["subscriptions"])
            numbers.add(shape["number"])
        assert len(numbers) <= 8 + 200 * 0.025 / 0.5 + 1
        bus.subscribe("odd", lambda _: None, name="the last")
        await asyncio.sleep(5)
        assert (await say("pulse"))["rows"][-1][0] == 500
        assert (await say("shape"))["subscriptions"][-1][0] == "the last"

    in_virtual_time(scene)


def test_a_subscription_that_has_ended_since_the_shape_says_so_in_its_row() -> None:
    async def scene(bus: EventBus) -> None:
        def on_tick(_event: Any) -> None: ...

        for number in range(10):
            bus.subscribe("market_data", on_tick, name=f"agent-{number}")
            await bus.admin.pulse()
            bus.unsubscribe("market_data", on_tick)
        bus.subscribe("market_data", on_tick, name="here")
        shape, pulse = await bus.admin.shape(), await bus.admin.pulse()
        assert shape.number == pulse.shape
        assert {shape.subscriptions[row.index].name: row.state for row in pulse.rows} == {"agent-7": "ended"}
        await asyncio.sleep(5)
        shape, pulse = await bus.admin.shape(), await bus.admin.pulse()
        assert {shape.subscriptions[row.index].name: row.state for row in pulse.rows} == {"here": "idle"}

    in_virtual_time(scene)


def test_only_what_has_changed_of_a_shape_is_described_anew() -> None:
    async def scene(bus: EventBus) -> None:
        for number in range(3):
            bus.subscribe("market_data", lambda _: None, name=f"agent-{number}")
        before = (await bus.admin.shape()).subscriptions
        bus.subscribe("odd", lambda _: None, name="new")
        bus.register_signal_agent("agent-1")
        after = (await bus.admin.shape()).subscriptions
        assert [one is other for one, other in zip(before, after, strict=False)] == [True, False, True]
        assert after[1].agent

    in_virtual_time(scene)


def test_whoever_asks_for_the_shape_alone_gets_the_newest() -> None:
    async def scene(bus: EventBus) -> None:
        verbs = watching(bus._lifecycle.control.reader)
        for number in range(5):
            bus.subscribe("market_data", lambda _: None, name=f"agent-{number}")
            said = msgspec.json.decode(await verbs["shape"].do(None, None))["result"]
            assert len(said["subscriptions"]) == number + 1

    in_virtual_time(scene)
