"""How a link stands: the word, the figures, and what is told of it."""

import json

import pytest
from bus_helpers import an_order, virtual
from desk_kit import Desk, passes, running
from listening import Listener

from openoutcry import EventBus
from openoutcry.errors import LinkError
from openoutcry.links.memory_hub import MemoryHub
from openoutcry.observers.reading import wrong


def two(hub, tmp_path, **fields):
    return (Desk(hub, name, tmp_path / name, **fields) for name in ("floor", "street"))


@virtual
async def test_a_link_that_has_nothing_to_do_is_up(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await floor.bus.publish(an_order())
        await passes(3)
        found = floor.linking.standing()
        assert (found.word, found.why, found.firm, found.desk) == ("up", "", "alpha", "floor")
        assert found.is_connected
        assert found.holder == hub.seats()[0].holder
        (other,) = found.desks
        assert (other.desk, other.word, other.halts) == ("street", "up", 0)
        assert other.heard_ns > 0
        normal = next(log for log in found.logs if log.log == "normal")
        assert normal.exported == normal.released
        assert (normal.events, normal.waiting_since_ns) == (1, 0)
        theirs = next(log for log in other.logs if log.log == "normal")
        assert theirs.theirs == normal.exported
        taken = next(log for log in street.linking.standing().desks[0].logs if log.log == "normal")
        assert (taken.events, taken.imported) == (1, normal.exported)


@virtual
async def test_the_pulse_and_the_status_say_how_the_link_stands(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await floor.bus.publish(an_order())
        await passes(1)
        pulse = await floor.bus.admin.pulse()
        assert pulse.link is not None
        assert pulse.link.desks[0].desk == "street"
        assert 0 <= pulse.now_ns - pulse.link.desks[0].heard_ns < 500_000_000
        assert wrong(await floor.bus.admin.shape(), pulse) == []
        assert json.loads(json.dumps(floor.bus.get_status()))["link"]["desk"] == "floor"
        await street.bus.stop(1)
        await passes(7)
        gone = await floor.bus.admin.pulse()
        assert gone.link is not None
        assert gone.link.desks[0].word == "away"
        assert "street" not in {one.culprit for one in wrong(await floor.bus.admin.shape(), gone)}


@virtual
async def test_a_bus_without_a_link_says_nothing_of_one(tmp_path):
    async with EventBus() as bus:
        assert (await bus.admin.pulse()).link is None
        assert bus.get_status()["link"] is None


@virtual
async def test_what_waits_is_told_with_the_desk_and_the_number_and_heals(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path, lease_s=0)
    async with running(floor, street):
        await passes(1)
        hub.fail("read", desk="street", times=100)
        for number in range(20):
            await floor.bus.publish(an_order(f"o-{number}"))
        await passes(4)
        word = floor.linking.standing()
        assert word.word == "behind"
        assert "desk 'street' is behind by up to 20 events (log normal)" in word.why
        finding = next(f for f in (await floor.bus.check_health()).findings if f.check == "link")
        assert finding.level.value == "degraded"
        assert street.linking.standing().desks[0].word == "behind"
        hub._planned.clear()
        await passes(4)
        assert floor.linking.standing().word == "up"
        assert "link" not in {f.check for f in (await floor.bus.check_health()).findings}


@virtual
async def test_a_steady_stream_of_which_something_always_waits_is_up(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        for number in range(60):
            await floor.bus.publish(an_order(f"o-{number}"))
            await passes(0.1)
            assert floor.linking.standing().word == street.linking.standing().word == "up"


@virtual
async def test_an_engine_that_does_not_answer_is_stalled_and_the_desk_goes_on(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        hub.is_answering = False
        assert await floor.bus.publish(an_order())
        await passes(5)
        assert floor.linking.standing().word == "stalled"
        assert await floor.bus.publish(an_order("o-2"))
        hub.is_answering = True
        await passes(5)
        assert floor.linking.standing().word == "up"


@virtual
async def test_a_desk_that_was_dropped_is_not_shown_any_more(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await street.bus.stop(1)
        await passes(10)
        assert [desk.desk for desk in floor.linking.standing().desks] == ["street"]
        await floor.transport.drop("street")
        await passes(10)
        assert floor.linking.standing().desks == []


@virtual
async def test_there_is_a_standing_before_the_start_and_after_the_stop(tmp_path):
    hub = MemoryHub()
    floor, _ = two(hub, tmp_path)
    assert floor.linking.standing() is None
    async with running(floor):
        assert floor.linking.standing().desks == []
    assert floor.linking.standing() is None


@virtual
async def test_a_desk_without_anything_to_do_says_that_the_engine_does_not_answer(tmp_path):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path, lease_s=0)
    async with running(floor, street):
        await passes(2)
        hub.is_answering = False
        await passes(5)
        standing = street.linking.standing()
        assert standing.word == "stalled"
        assert "the engine does not answer" in standing.why
        assert any("the engine does not answer" in text for text, _ in street.linking.problems())
        hub.is_answering = True
        await passes(5)
        assert street.linking.standing().word == "up"


@virtual
async def test_a_desk_that_starts_while_the_engine_is_away_is_stalled_from_the_beginning(tmp_path, caplog):
    hub = MemoryHub()
    hub.delay_s = 60
    floor, street = two(hub, tmp_path, lease_s=0)
    async with running(floor, street):
        assert floor.linking.standing().word == "stalled"
        assert "the engine did not answer within 5 s" in floor.linking.standing().why
        assert "starts without the other desks: the engine did not answer within 5 s; what" in caplog.text
        hub.delay_s = 0
        await passes(70)
        assert floor.linking.standing().word == "up"


def not_permitted(desk, step):
    raise LinkError(f"the server does not permit {step}")


@virtual
async def test_an_engine_that_comes_back_and_cannot_be_used_is_told_once_and_tried_again(tmp_path, caplog):
    hub = MemoryHub()
    hub.is_answering = False
    floor, street = two(hub, tmp_path, lease_s=0)
    async with running(floor, street):
        hub.is_answering, hub.on_step = True, not_permitted
        await passes(20)
        assert floor.linking.standing().word == "stalled"
        assert any("does not permit open" in text for text, _ in floor.linking.problems())
        assert caplog.text.count("desk floor is not joined to the others") == 1
        hub.on_step = MemoryHub().on_step
        await passes(10)
        assert floor.linking.standing().word == "up"
        assert floor.linking.problems() == ()


@virtual
@pytest.mark.parametrize(
    ("step", "desk", "words"),
    [
        ("append", "floor", "the log 'normal' takes nothing: the server does not permit append"),
        ("read", "street", "events of desk 'floor' cannot be read: the server does not permit read"),
    ],
)
async def test_what_the_engine_does_not_permit_is_told_and_goes_on_when_it_does(tmp_path, step, desk, words):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street)
    async with running(floor, street):
        await passes(2)
        hub.on_step = lambda who, what: not_permitted(who, what) if (who, what) == (desk, step) else None
        assert await floor.bus.publish(an_order(event_id="o-1"))
        assert await floor.bus.publish(an_order(event_id="o-2"))
        await passes(5)
        standing = {"floor": floor, "street": street}[desk].linking.standing()
        assert standing.word == "stalled"
        assert words in standing.why
        hub.on_step = MemoryHub().on_step
        await passes(10)
        assert there.ids == ["o-1", "o-2"]
        assert floor.linking.standing().word == street.linking.standing().word == "up"
