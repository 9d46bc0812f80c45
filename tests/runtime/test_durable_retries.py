"""Dead letters that survive, redrives, derived ids, and what is suspected of having killed the process (CONTRACT 10-12, 18)."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from bus_helpers import (
    Failing,
    a_fill,
    a_kill,
    an_order,
    assert_balanced,
    assert_settled,
    pause_until,
    row,
    virtual,
)
from durable_kit import Disk, Named, a_bus, abandon, ids, is_settled, orders, turns, written, written_ids

from openoutcry import ConfigError, Event, EventBus, NotSubscribed, RetryPolicy, register_event
from openoutcry.events.pages import Undecodable
from openoutcry.journals import MemoryJournal
from openoutcry.ports import Entry

SOON = RetryPolicy(attempts=3, first_s=0.01, jitter=0)


async def started(journal: Any, handler: Any, *, takes: Any = "order", **fields: Any) -> EventBus:
    """A running bus with one subscription, `risk`; `retry` is the subscription's."""
    retry = fields.pop("retry", False)
    bus = a_bus(journal, **fields)
    bus.subscribe(takes, handler, name="risk", retry=retry)
    await bus.start()
    return bus


# -- dead letters over restarts -----------------------------------------------------------------------


@virtual
async def test_a_dead_letter_survives_with_error_traceback_and_attempts(disk: Disk):
    bus = await started(disk.journal, Failing().on_event, retry=SOON)
    order = an_order()
    await bus.publish(order)
    await bus.join()
    await turns()
    journal = await disk.crash(bus)
    bus = await started(journal, Named("risk").on_event)
    await bus.join()
    (letter,) = bus.dead_letters("risk")
    assert letter.event == order
    assert (letter.reason, letter.attempts, letter.position, letter.lane) == ("failed", 3, 1, "normal")
    assert "ValueError('no')" in letter.error
    assert "Traceback" in letter.traceback
    assert letter.letter_id > 0
    await bus.stop()


@virtual
async def test_a_dead_letter_is_settled_in_the_commit_that_buries_it(disk: Disk):
    bus = await started(disk.journal, Failing().on_event, cursor_save_s=3600)
    await bus.publish_many(orders(3))
    await bus.join()
    await turns()
    journal = await disk.crash(bus)
    assert len(journal.buried("risk")) == 3
    assert all(is_settled(journal, "risk", "normal", position) for position in (1, 2, 3))
    desk = Named("risk")
    bus = await started(journal, desk.on_event)
    await bus.join()
    assert desk.begun == []
    await bus.stop()


@virtual
async def test_ids_of_letters_are_never_given_twice(disk: Disk):
    seen: list[int] = []
    journal = disk.journal
    for _ in range(3):
        bus = await started(journal, Failing().on_event)
        await bus.publish(an_order())
        await bus.join()
        seen = [letter.letter_id for letter in bus.dead_letters("risk")]
        assert len(set(seen)) == len(seen)
        await turns()
        journal = await disk.crash(bus)
    assert len(seen) == 3


@virtual
async def test_dead_letters_of_high_priority_events_and_kill_switches_survive_too(disk: Disk):
    bus = await started(disk.journal, Failing().on_event, takes="*")
    await bus.publish(a_fill())
    await bus.publish(a_kill())
    await bus.join()
    journal = await disk.crash(bus)
    desk = Named("risk")
    bus = await started(journal, desk.on_event, takes="*")
    await bus.join()
    assert sorted(letter.lane for letter in bus.dead_letters("risk")) == ["control", "high"]
    assert desk.begun == []
    assert bus.admin.redrive() == 2
    await bus.join()
    assert sorted(desk.types) == ["fill", "kill_switch"]
    assert not bus.dead_letters("risk")
    await bus.stop()


@virtual
async def test_a_dead_letter_of_a_kill_switch_tells_its_position_if_it_was_committed_by_then(disk: Disk):
    bus = await started(disk.journal, Failing().on_event, takes="*", retry=SOON)
    await bus.publish(an_order())
    await bus.publish(a_kill())
    await bus.join()
    assert {(letter.lane, letter.position) for letter in bus.dead_letters("risk")} == {
        ("normal", 1),
        ("control", 2),
    }
    await bus.stop()


@virtual
async def test_other_subscriptions_handle_what_one_gives_up(disk: Disk):
    good = Named("good")
    bus = await started(disk.journal, Failing().on_event)
    bus.subscribe("order", good.on_event)
    some = orders(5)
    await bus.publish_many(some)
    await bus.join()
    assert ids(good.handled) == ids(some)
    assert bus.admin.redrive("good.on_event") == 0
    assert_settled(bus)
    await bus.stop()


# -- redrive ------------------------------------------------------------------------------------------


@virtual
async def test_a_redrive_goes_to_the_failed_subscription_alone_and_the_letter_is_gone_for_good(disk: Disk):
    failing, good = Failing(times=1), Named("good")
    bus = await started(disk.journal, failing.on_event)
    bus.subscribe("order", good.on_event)
    order = an_order()
    await bus.publish(order)
    await bus.join()
    assert len(good.handled) == 1
    assert bus.admin.redrive() == 1
    await bus.join()
    assert ids(failing.handled) == [order.event_id]
    assert len(good.handled) == 1
    assert not bus.dead_letters()
    await bus.flush()
    journal = await disk.crash(bus)
    assert journal.buried() == []
    bus = await started(journal, Named("risk").on_event)
    assert not bus.dead_letters()
    await bus.stop()


@virtual
async def test_a_redrive_that_fails_again_leaves_one_letter_with_the_attempts_of_both(disk: Disk):
    bus = await started(disk.journal, Failing().on_event, retry=SOON)
    await bus.publish(an_order())
    await bus.join()
    for attempts in (6, 9, 12):
        assert bus.admin.redrive("risk") == 1
        await bus.join()
        (letter,) = bus.dead_letters("risk")
        assert letter.attempts == attempts
        await bus.flush()
        (stored,) = disk.journal.buried("risk")
        assert (stored.attempts, stored.letter_id, stored.position) == (attempts, letter.letter_id, 1)
    journal = await disk.crash(bus)
    bus = await started(journal, Failing().on_event, retry=SOON)
    assert bus.admin.redrive("risk") == 1
    await bus.join()
    (letter,) = bus.dead_letters("risk")
    assert (letter.attempts, letter.position) == (15, 1)
    await bus.stop()


@virtual
async def test_redriving_twice_at_once_hands_over_once(disk: Disk):
    failing = Failing(times=1)
    bus = await started(disk.journal, failing.on_event)
    await bus.publish(an_order())
    await bus.join()
    assert [bus.admin.redrive(), bus.admin.redrive(), bus.admin.redrive("risk")] == [1, 0, 0]
    await bus.join()
    assert len(failing.handled) == 1
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_crash_during_a_redrive_leaves_the_letter_where_it_was(disk: Disk):
    failing = Failing(times=1)
    failing.takes_s = 1e6
    bus = await started(disk.journal, failing.on_event)
    order = an_order()
    await bus.publish(order)
    await bus.join()
    assert bus.admin.redrive() == 1
    await asyncio.sleep(1)
    assert len(failing.begun) == 1
    journal = await disk.crash(bus)
    desk = Named("risk")
    bus = await started(journal, desk.on_event)
    await bus.join()
    assert desk.begun == [], "it is the operator's to redrive, not the start's"
    (letter,) = bus.dead_letters("risk")
    assert letter.event == order
    assert bus.admin.redrive() == 1
    await bus.join()
    assert ids(desk.handled) == [order.event_id]
    await bus.stop()


@virtual
async def test_a_redrive_that_the_stop_interrupts_goes_on_with_the_same_bus(disk: Disk):
    failing = Failing(times=1)
    bus = await started(disk.journal, failing.on_event)
    await bus.publish(an_order())
    await bus.join()
    failing.takes_s = 10
    assert bus.admin.redrive() == 1
    await asyncio.sleep(1)
    await bus.stop(timeout_s=1)
    assert len(disk.journal.buried()) == 1
    await bus.start()
    await bus.join()
    await bus.flush()
    assert len(failing.handled) == 1
    assert disk.journal.buried() == []
    assert_settled(bus)
    await bus.stop()


@virtual
async def test_a_redrive_that_another_life_of_the_journal_interrupts_keeps_the_letter():
    journal, failing = MemoryJournal(), Failing()
    bus = await started(journal, failing.on_event)
    await bus.publish(an_order())
    await bus.join()
    bus.subscribe("order", failing.on_event).pause()
    assert bus.admin.redrive() == 1
    await bus.stop(timeout_s=0)
    async with a_bus(journal) as other:
        await other.publish(an_order("o-2"))
    await bus.start()
    await bus.flush()
    assert len(journal.buried()) == 1
    assert bus.admin.redrive() == 1
    await bus.stop(timeout_s=0)


@virtual
async def test_letters_are_chosen_by_id_type_and_time(disk: Disk):
    failing = Failing(times=1)
    bus = await started(disk.journal, failing.on_event, takes="*")
    for event in (an_order("1"), an_order("2"), a_fill("3")):
        await bus.publish(event)
        await bus.join()
        await asyncio.sleep(10)
    letters = bus.dead_letters("risk")
    assert bus.admin.redrive(event_type="nothing") == 0
    assert bus.admin.redrive(event_type="fill") == 1
    await bus.join()
    assert bus.admin.redrive(since_ns=letters[1].wall_ns, until_ns=letters[1].wall_ns + 1) == 1
    await bus.join()
    assert bus.admin.redrive("risk", letter_ids=[letters[0].letter_id, 999]) == 1
    await bus.join()
    assert [event.order_id for event in failing.handled] == ["3", "2", "1"]
    with pytest.raises(ConfigError, match="letter_ids, event_type"):
        bus.admin.redrive(colour="red")
    with pytest.raises(NotSubscribed):
        bus.admin.redrive("nobody")
    await bus.stop()


@virtual
async def test_dropped_letters_are_gone_for_good(disk: Disk):
    bus = await started(disk.journal, Failing().on_event)
    await bus.publish_many(orders(3))
    await bus.join()
    letters = bus.dead_letters("risk")
    assert bus.admin.drop_dead_letters("risk", letter_ids=[letters[1].letter_id]) == 1
    await bus.flush()
    journal = await disk.crash(bus)
    desk = Named("risk")
    bus = await started(journal, desk.on_event)
    await bus.join()
    assert [letter.event.order_id for letter in bus.dead_letters("risk")] == ["o-1", "o-3"]
    assert desk.begun == []
    assert bus.admin.drop_dead_letters() == 2
    await bus.stop()
    assert disk.restarted().buried() == []


@virtual
async def test_a_letter_that_is_being_redriven_is_not_dropped(disk: Disk):
    failing = Failing(times=1)
    bus = await started(disk.journal, failing.on_event)
    await bus.publish(an_order())
    await bus.join()
    failing.takes_s = 1
    assert bus.admin.redrive() == 1
    await turns()
    assert bus.admin.drop_dead_letters() == 0
    await bus.join()
    assert len(failing.handled) == 1
    await bus.stop()


@virtual
async def test_redriving_without_a_journal_works_as_with_one():
    failing = Failing(times=1)
    async with EventBus() as bus:
        bus.subscribe("order", failing.on_event, name="risk", retry=False)
        await bus.publish(an_order())
        await bus.join()
        assert bus.admin.redrive() == 1
        await bus.join()
        assert len(failing.handled) == 1
        assert not bus.dead_letters()
        assert_balanced(bus)


@virtual
async def test_a_redriven_event_is_neither_a_duplicate_nor_lost_among_new_ones(disk: Disk):
    failing = Failing(times=1)
    bus = await started(disk.journal, failing.on_event)
    for order in orders(20):
        await bus.publish(order)
        await bus.join()
        bus.admin.redrive()
    await bus.join()
    assert sorted(failing.ids) == sorted(written_ids(disk.journal))
    assert_settled(bus)
    await bus.stop()


# -- what nobody can read -----------------------------------------------------------------------------


UNKNOWN = b'{"event_class":"NobodyKnowsThis","event_id":"%d","event_type":"note","source_agent":"desk","text":"\xc3\xa9"}'


def write_unknown(journal: Any, count: int) -> list[bytes]:
    """What an older or newer program has left in the journal."""
    payloads = [UNKNOWN % n for n in range(count)]
    journal.write([Entry(str(n), payload) for n, payload in enumerate(payloads)])
    return payloads


@virtual
async def test_an_unknown_event_type_is_kept_byte_for_byte_and_reported(disk: Disk):
    payloads = write_unknown(disk.journal, 2)
    desk = Named("risk")
    bus = await started(disk.journal, desk.on_event, takes=["note", "order"])
    order = an_order()
    await bus.publish(order)
    await bus.join()
    assert ids(desk.handled) == [order.event_id]
    letters = bus.dead_letters("risk")
    assert [letter.reason for letter in letters] == ["unreadable"] * 2
    assert [letter.event.payload for letter in letters] == payloads
    assert all(isinstance(letter.event, Undecodable) for letter in letters)
    assert bus.admin.redrive() == 0, "nobody can read it yet"
    await bus.flush()
    journal = await disk.crash(bus)
    assert [stored.payload for stored in journal.read(0, 2)] == payloads
    assert [stored.payload for stored in journal.buried()] == payloads
    bus = await started(journal, desk.on_event, takes=["note", "order"])
    await bus.join()
    assert len(bus.dead_letters("risk")) == 2, "reported once, not once per start"
    await bus.stop()


@virtual
async def test_who_does_not_take_the_unknown_type_hears_nothing_of_it(disk: Disk):
    write_unknown(disk.journal, 2)
    bus = await started(disk.journal, Named("risk").on_event, takes="order")
    await bus.join()
    assert not bus.dead_letters("risk")
    await bus.stop()


@virtual
async def test_what_could_not_be_read_is_redriven_once_its_class_is_registered(disk: Disk):
    name = f"LateNote{disk.kind}"
    payload = (
        b'{"event_class":"%s","event_id":"n-1","timestamp":1,"event_type":"late_note","text":"hello"}'
        % name.encode()
    )
    disk.journal.write([Entry("n-1", payload)])
    desk = Named("risk")
    bus = await started(disk.journal, desk.on_event, takes=["late_note"])
    await bus.join()
    assert bus.admin.redrive() == 0
    await bus.stop()

    class LateNote(Event, tag=name):
        text: str = ""

    desk = Named("risk")
    bus = await started(disk.restarted(), desk.on_event, takes=["late_note"])
    await bus.join()
    assert desk.begun == [], "it is settled: it waits for its redrive"
    assert bus.admin.redrive() == 1
    await bus.join()
    assert [(type(event), event.text) for event in desk.handled] == [(LateNote, "hello")]
    assert not bus.dead_letters()
    await bus.stop()


@virtual
async def test_users_own_classes_survive_with_their_envelope(disk: Disk):
    @register_event(name=f"Memo{disk.kind}")
    @dataclass
    class Memo:
        event_id: str
        text: str
        event_type: str = "memo"

    bus = a_bus(disk.journal)

    async def write_memo(order: Any) -> None:
        await bus.publish(Memo("m-1", "noted"))

    bus.subscribe("order", write_memo, name="writer")
    bus.subscribe("memo", Named("desk", takes_s=1e6).on_event)
    await bus.start()
    order = an_order(correlation_id="chain")
    await bus.publish(order)
    await asyncio.sleep(1)
    (stored,) = [s for s in disk.journal.read(0, 9) if s.head().event_type == "memo"]
    assert (stored.head().causation_id, stored.head().correlation_id) == (order.event_id, "chain")
    journal = await disk.crash(bus)
    desk = Named("desk")
    bus = a_bus(journal)
    bus.subscribe("memo", desk.on_event)
    await bus.start()
    await bus.join()
    assert [(type(m), m.event_id, m.text) for m in desk.handled] == [(Memo, "m-1", "noted")]
    await bus.stop()


# -- ids that follow from the cause -------------------------------------------------------------------


def executing(bus: EventBus, per_order: int = 2, after: Any = None) -> Any:
    async def execute(order: Any) -> None:
        for n in range(per_order):
            await bus.publish(a_fill(f"{order.order_id}/{n}"))
        if after is not None:
            await after(order)

    return execute


async def hang(_order: Any) -> None:
    await asyncio.sleep(1e6)


@virtual
async def test_a_handler_that_is_run_again_publishes_nothing_twice(disk: Disk):
    book = Named("book")
    bus = a_bus(disk.journal)
    bus.subscribe("order", executing(bus, after=hang), name="execution")
    bus.subscribe("fill", book.on_event)
    await bus.start()
    await bus.publish(an_order())
    await asyncio.sleep(1)
    assert len(book.handled) == 2
    journal = await disk.crash(bus)
    again = Named("book")
    bus = a_bus(journal)
    bus.subscribe("order", executing(bus), name="execution")
    bus.subscribe("fill", again.on_event)
    await bus.start()
    await bus.join()
    assert again.handled == []
    assert [str(event.event_type) for event in written(disk.journal)] == ["order", "fill", "fill"]
    await bus.stop()


@virtual
async def test_a_retry_publishes_the_same_ids_as_the_first_attempt(disk: Disk):
    tries = 0

    async def fail_once(_order: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("after the fills were published")

    book = Named("book")
    bus = a_bus(disk.journal)
    bus.subscribe("order", executing(bus, after=fail_once), name="execution", retry=SOON)
    bus.subscribe("fill", book.on_event)
    await bus.start()
    await bus.publish(an_order())
    await bus.join()
    assert tries == 2
    assert len(book.handled) == 2
    assert bus.metrics.duplicates == 2
    await bus.stop()


@virtual
async def test_two_subscriptions_that_handle_one_event_derive_different_ids(disk: Disk):
    bus = a_bus(disk.journal)
    for name in ("a", "b"):
        bus.subscribe("order", executing(bus, 1), name=name)
    await bus.start()
    await bus.publish(an_order())
    await bus.join()
    assert len(set(written_ids(disk.journal))) == 3
    await bus.stop()


@virtual
async def test_tasks_that_a_handler_spawns_derive_the_same_ids_again(disk: Disk):
    async def one(bus: EventBus, n: int) -> None:
        await asyncio.sleep(0.01 * (3 - n))
        await bus.publish(a_fill(f"{n}"))

    found = []
    journal = disk.journal
    for after in (True, False):
        bus = a_bus(journal)

        async def execute(_order: Any, bus: EventBus = bus, hangs: bool = after) -> None:
            async with asyncio.TaskGroup() as group:
                for n in range(3):
                    group.create_task(one(bus, n))
            if hangs:
                await asyncio.sleep(1e6)

        bus.subscribe("order", execute, name="execution")
        if after:
            await bus.publish(an_order())
        await bus.start()
        await asyncio.sleep(1)
        found.append(written_ids(disk.journal))
        journal = await disk.crash(bus)
    assert found[0] == found[1]
    assert len(found[0]) == 4


@virtual
async def test_an_event_published_outside_of_handlers_has_an_id_of_its_own():
    async with a_bus(MemoryJournal()) as bus:
        assert await bus.publish(an_order("same"))
        assert await bus.publish(an_order("same"))
        assert bus.metrics.duplicates == 0


# -- suspects -----------------------------------------------------------------------------------------


@virtual
async def test_what_was_in_hand_at_a_crash_is_suspected_and_tried_alone(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("hand", takes_s=1e6).on_event)
    bus.subscribe("order", Named("other").on_event)
    await bus.start()
    await bus.publish_many(orders(3))
    await asyncio.sleep(1)
    journal = await disk.crash(bus)
    (suspect,) = journal.suspects()
    assert (suspect.subscription, suspect.position, suspect.crashes) == ("hand.on_event", 1, 1)
    hand, other = Named("hand", takes_s=1.0), Named("other")
    bus = a_bus(journal)
    bus.subscribe("order", hand.on_event)
    bus.subscribe("order", other.on_event)
    await bus.start()
    await bus.publish(an_order("new"))
    await asyncio.sleep(0.5)
    assert len(hand.begun) == 1
    assert other.begun == [], "nothing else runs beside it"
    await bus.join()
    assert len(hand.handled) == 4
    assert len(other.handled) == 1
    await bus.flush()
    assert journal.suspects() == []
    await bus.stop()


@virtual
async def test_a_suspect_that_takes_its_time_does_not_keep_the_others_for_ever(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("hand", takes_s=1e6).on_event)
    await bus.start()
    await bus.publish(an_order())
    await turns()
    journal = await disk.crash(bus)
    other = Named("other")
    bus = a_bus(journal, suspect_alone_s=2.0)
    bus.subscribe("order", Named("hand", takes_s=100).on_event)
    bus.subscribe("order", other.on_event, name="other", durable=False)
    await bus.start()
    await bus.publish(an_order("new"))
    await asyncio.sleep(1.9)
    assert other.begun == []
    await asyncio.sleep(0.2)
    assert len(other.handled) == 1
    await bus.join()
    await bus.stop()


@virtual
async def test_a_suspect_that_is_over_when_no_more_are_tried_alone_is_forgotten(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("hand", takes_s=1e6).on_event, name="hand", concurrency=2)
    await bus.start()
    await bus.publish_many(orders(2))
    await turns()
    journal = await disk.crash(bus)
    assert [suspect.position for suspect in journal.suspects()] == [1, 2]
    monkeypatch.setattr("random.shuffle", lambda calls: calls.sort(key=lambda call: call[2]))

    async def handler(order: Any) -> None:
        if order.order_id == "o-1":
            await asyncio.sleep(0.5)
            clock = asyncio.get_running_loop().clock  # type: ignore[attr-defined]
            clock.advance_to(clock.now_ns() + 10**10)  # it blocks the loop, for longer than others wait

    bus = a_bus(journal, suspect_alone_s=1.0)
    bus.subscribe("order", handler, name="hand", concurrency=2)
    await bus.start()
    await bus.join()
    await bus.flush()
    assert journal.suspects() == []
    await bus.stop()


@virtual
async def test_a_kill_switch_gets_through_beside_a_suspect(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("hand", takes_s=1e6).on_event)
    await bus.start()
    await bus.publish(an_order())
    await turns()
    journal = await disk.crash(bus)
    risk = Named("risk")
    bus = a_bus(journal)
    bus.subscribe("order", Named("hand", takes_s=3).on_event)
    bus.subscribe("kill_switch", risk.on_event)
    await bus.start()
    await bus.publish(a_kill())
    await asyncio.sleep(0.01)
    assert len(risk.handled) == 1
    await bus.join()
    await bus.stop()


@virtual
async def test_an_event_that_is_in_hand_at_every_crash_is_quarantined_and_the_rest_goes_on(disk: Disk):
    some = orders(3)
    journal = disk.journal
    for life in range(3):
        bus = await started(journal, Named("risk", takes_s=1e6).on_event, crash_attempts=3)
        if life == 0:
            await bus.publish_many(some)
        await asyncio.sleep(0.5)
        journal = await disk.crash(bus)
    desk = Named("risk")
    told: list[Any] = []
    bus = a_bus(journal, crash_attempts=3)
    bus.on_dead_letter(told.append)
    bus.subscribe("order", desk.on_event, name="risk")
    await bus.start()
    await bus.join()
    (letter,) = bus.dead_letters("risk")
    assert (letter.reason, letter.attempts, letter.position) == ("quarantined", 3, 1)
    assert letter.event == some[0]
    assert "died 3 times" in letter.error
    assert [one.reason for one in told] == ["quarantined"]
    assert ids(desk.handled) == ids(some[1:])
    assert row(bus, "risk").in_flight == 0
    await bus.flush()
    journal = await disk.crash(bus)
    assert journal.suspects() == []
    bus = await started(journal, desk.on_event)
    assert bus.admin.redrive() == 1
    await bus.join()
    assert ids(desk.handled) == ids([*some[1:], some[0]])
    await bus.stop()


@virtual
async def test_a_clean_stop_makes_nobody_a_suspect(disk: Disk):
    bus = await started(disk.journal, Named("risk", takes_s=1e6).on_event)
    await bus.publish_many(orders(3))
    await asyncio.sleep(0.5)
    await bus.stop(timeout_s=0)
    assert disk.restarted().suspects() == []


@virtual
async def test_marks_of_calls_beside_each_other_are_kept_apart(disk: Disk):
    bus = a_bus(disk.journal)
    bus.subscribe("order", Named("risk", takes_s=1e6).on_event, concurrency=3)
    await bus.start()
    await bus.publish_many(orders(5))
    await asyncio.sleep(0.5)
    journal = await disk.crash(bus)
    assert sorted(s.position for s in journal.suspects()) == [1, 2, 3]


@virtual
async def test_a_batch_in_hand_has_one_suspect_the_event_in_the_handler(disk: Disk):
    async def handler(order: Any) -> None:
        if order.order_id == "o-40":
            await asyncio.sleep(1e6)

    bus = await started(disk.journal, handler)
    await bus.publish_many(orders(100))
    await asyncio.sleep(0.5)
    journal = await disk.crash(bus)
    assert [s.position for s in journal.suspects()] == [40]


@virtual
async def test_an_event_of_level_memory_is_no_suspect(disk: Disk):
    bus = await started(disk.journal, Named("risk", takes_s=1e6).on_event)
    await bus.publish(an_order(), level="memory")
    await pause_until(lambda: row(bus, "risk").in_flight == 1)
    journal = await disk.crash(bus)
    assert journal.suspects() == []


@virtual
async def test_an_innocent_that_takes_longer_than_it_may_be_alone_is_not_convicted_with_the_killer():
    journal = MemoryJournal()
    for life in range(5):
        bus = a_bus(journal, crash_attempts=3, suspect_alone_s=5.0)
        innocent, killer = Named("innocent", takes_s=20.0), Named("killer", takes_s=1e6)
        bus.subscribe("order", innocent.on_event)
        bus.subscribe("order", killer.on_event)
        if life == 0:
            await bus.publish(an_order())
        await bus.start()
        for _ in range(3000):
            if killer.begun:
                break
            await asyncio.sleep(0.01)
        if not killer.begun:
            break
        await asyncio.sleep(1)  # it "kills" the process a second after it was begun
        again = journal.reopened()
        await abandon(bus)
        journal = again
    assert [letter.subscription for letter in bus.dead_letters()] == ["killer.on_event"]
    await bus.join()
    await bus.stop()


@virtual
async def test_a_call_that_is_always_in_hand_when_the_process_dies_of_something_else_is_not_convicted():
    journal = MemoryJournal()
    for life in range(8):
        bus = a_bus(journal, crash_attempts=3, suspect_alone_s=1.0)
        waiter = Named("waiter", takes_s=1e6)
        bus.subscribe("order", waiter.on_event)
        if life == 0:
            await bus.publish(an_order())
        await bus.start()
        await asyncio.sleep(10)
        assert waiter.begun
        again = journal.reopened()
        await abandon(bus)
        journal = again
    assert journal.buried() == []
