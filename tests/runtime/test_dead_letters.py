"""Dead letters belong to a name: all of them, by the page, with and without a journal (CONTRACT 10, 11)."""

import asyncio
import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import (
    Desk,
    Failing,
    Gate,
    a_fill,
    a_kill,
    a_tick,
    an_order,
    assert_settled,
    pause_until,
    virtual,
)
from durable_kit import Disk, a_bus, ids, orders, turns

from openoutcry import (
    ConfigError,
    Conflate,
    EventBus,
    NotSubscribed,
    OrderEvent,
    PersistenceConfig,
    RetryPolicy,
    decode,
)
from openoutcry.errors import JournalDead, JournalError
from openoutcry.journals import JournalReader, MemoryJournal
from openoutcry.runtime.delivery import dead_letters as module

KINDS = ["none", "memory", "sqlite"]
ONCE: dict[str, Any] = {"retry": False, "breaker": False}


class Kind:
    """A bus without a journal, or with one of a kind, and what becomes of it at a restart."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.disk = None if kind == "none" else Disk(kind, folder)

    def bus(self, **fields: Any) -> EventBus:
        if self.disk is None:
            return EventBus(fields.pop("max_queue_size", 10_000), **fields)
        return a_bus(self.disk.journal, **fields)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    made = Kind(request.param, tmp_path / "journal")
    yield made
    if made.disk is not None:
        made.disk.close()


async def failed(bus: EventBus, events: list[Any], name: str = "risk", takes: Any = "*") -> Failing:
    """Have a subscription of that name fail at some events."""
    broken = Failing()
    bus.subscribe(takes, broken.on_event, name=name, **ONCE)
    await bus.publish_many(events)
    await bus.join()
    await turns()
    return broken


def counts(bus: EventBus, name: str) -> set[int]:
    """The number of letters of a name, as everybody tells it."""
    status = bus.get_status()
    by_name = status["letters"]["by_name"].get(name, {"count": 0})
    found = {
        len(bus.dead_letters(name)) if bus.dead_letters() else 0,
        sum(letter.subscription == name for letter in bus.dead_letters()),
        bus.dead_letter_counts().get(name, 0),
        by_name["count"],
    }
    found |= {one["dead_letters"] for one in status["handlers"]["handlers"] if one["name"] == name}
    if len(status["letters"]["by_name"]) <= 1:
        found |= {status["dead_letters"], status["letters"]["total"]}
    return found


# -- by name ------------------------------------------------------------------------------------------


@virtual
async def test_a_corrected_handler_under_the_same_name_gets_all_of_them(kind: Kind):
    async with kind.bus() as bus:
        events = [*orders(3), a_fill(), a_tick()]
        broken = await failed(bus, events)
        assert counts(bus, "risk") == {5}
        bus.unsubscribe("*", broken.on_event)
        assert counts(bus, "risk") == {5}
        assert bus.get_status()["letters"]["by_name"] == {"risk": {"count": 5, "subscribed": False}}
        mended = Desk()
        bus.subscribe("*", mended.on_event, name="risk")
        assert bus.get_status()["letters"]["by_name"] == {"risk": {"count": 5, "subscribed": True}}
        assert bus.admin.redrive("risk") == 5
        await bus.join()
        assert sorted(mended.ids) == sorted(ids(events))
        assert counts(bus, "risk") == {0}
        assert bus.admin.drop_dead_letters() == 0
        assert_settled(bus)
        if kind.disk is not None:
            await bus.flush()
            assert kind.disk.journal.buried() == []


@virtual
async def test_letters_of_a_name_that_is_absent_are_listed_dropped_and_not_redriven_in_silence(
    kind: Kind, caplog: pytest.LogCaptureFixture
):
    async with kind.bus() as bus:
        broken = await failed(bus, orders(3))
        bus.unsubscribe("*", broken.on_event)
        assert len(bus.dead_letters("risk")) == 3
        with pytest.raises(NotSubscribed, match="not subscribed now, and has 3 dead letters"):
            bus.admin.redrive("risk")
        assert bus.admin.redrive() == 0
        assert "3 dead letters belong to names that are not subscribed now" in caplog.text
        with pytest.raises(NotSubscribed):
            bus.admin.redrive("nobody")
        with pytest.raises(NotSubscribed):
            bus.admin.drop_dead_letters("nobody")
        with pytest.raises(NotSubscribed):
            bus.dead_letters("nobody")
        first = bus.dead_letters()[0].letter_id
        assert bus.admin.drop_dead_letters("risk", letter_ids=[first]) == 1
        assert counts(bus, "risk") == {2}
        assert bus.admin.drop_dead_letters("risk") == 2
        assert counts(bus, "risk") == {0}


@virtual
async def test_what_is_left_for_absent_names_is_reported_where_others_are_redriven(
    kind: Kind, caplog: pytest.LogCaptureFixture
):
    async with kind.bus() as bus:
        gone = await failed(bus, orders(2), name="gone")
        bus.unsubscribe("*", gone.on_event)
        there = await failed(bus, orders(1, first=9), name="there")
        there._times = 0
        assert bus.admin.redrive() == 1
        assert "2 dead letters belong to names that are not subscribed now" in caplog.text
        assert "gone (2)" in caplog.text
        await bus.join()
        assert bus.dead_letter_counts() == {"gone": 2}


@virtual
async def test_letters_outlive_the_process_under_their_name(kind: Kind):
    if kind.disk is None:
        return
    bus = kind.bus()
    await bus.start()
    await failed(bus, orders(3))
    journal = await kind.disk.crash(bus)
    async with a_bus(journal) as bus:
        assert bus.dead_letter_counts() == {"risk": 3}, "nobody is subscribed yet"
        mended = Desk()
        bus.subscribe("*", mended.on_event, name="risk")
        assert bus.admin.redrive("risk") == 3
        await bus.join()
        assert len(mended.handled) == 3
        assert counts(bus, "risk") == {0}
    assert journal.buried() == []


@virtual
async def test_a_bus_that_does_not_run_knows_the_letters_of_its_file(tmp_path: Path):
    settings = PersistenceConfig(path=tmp_path / "firm.db", socket=False)
    bus = EventBus(persistence_config=settings)
    assert bus.dead_letters() == []
    async with bus:
        await failed(bus, orders(3))
    assert len(bus.dead_letters("risk")) == 3, "after the stop"
    again = EventBus(persistence_config=settings)
    assert again.dead_letter_counts() == {"risk": 3}, "before the start"
    assert again.get_status()["dead_letters"] == 3
    for verb in (again.admin.redrive, again.admin.drop_dead_letters):
        with pytest.raises(JournalError, match="not open"):
            verb()


@virtual
async def test_ids_of_letters_are_not_given_again_after_a_restart_either(tmp_path: Path):
    settings = PersistenceConfig(path=tmp_path / "firm.db", socket=False)
    seen: list[int] = []
    for _ in range(3):
        async with EventBus(persistence_config=settings) as bus:
            await failed(bus, orders(2))
            seen += [letter.letter_id for letter in bus.dead_letters()]
            assert bus.admin.drop_dead_letters() == 2
    assert seen == [1, 2, 3, 4, 5, 6]


# -- all of them, by the page -------------------------------------------------------------------------


@virtual
async def test_twelve_thousand_letters_are_all_redriven_and_never_more_than_fit_into_the_mailbox(kind: Kind):
    async with kind.bus(max_queue_size=500) as bus:
        broken = Failing()
        bus.subscribe("*", broken.on_event, name="risk", **ONCE)
        events = orders(12_000)
        for low in range(0, len(events), 400):
            await bus.publish_many(events[low : low + 400])
            await bus.join()
        bus.unsubscribe("*", broken.on_event)
        assert counts(bus, "risk") == {12_000}
        mended, most = Desk(), 0

        async def handle(event: Any) -> None:
            nonlocal most
            most = max(most, bus.subscription("risk").mailbox.waiting)
            await mended.on_event(event)

        bus.subscribe("*", handle, name="risk")
        assert bus.admin.redrive("risk") == 12_000
        await bus.join()
        assert mended.ids == ids(events), "all of them, in order"
        assert 0 < most <= 500
        assert counts(bus, "risk") == {0}
        assert_settled(bus)


@virtual
async def test_letters_are_listed_by_the_page(kind: Kind):
    async with kind.bus() as bus:
        await failed(bus, orders(300))
        whole = bus.dead_letters("risk")
        assert len(whole) == 300
        found: list[Any] = []
        while page := bus.dead_letters("risk", limit=70, after=found[-1].letter_id if found else 0):
            assert len(page) <= 70
            found += page
        assert found == whole
        assert bus.dead_letters(limit=1) == whole[:1]
        for wrong in ({"limit": 0}, {"limit": 1.5}, {"after": -1}):
            with pytest.raises(ConfigError):
                bus.dead_letters(**wrong)


@virtual
async def test_letters_are_redriven_and_dropped_a_page_at_a_time(kind: Kind):
    async with kind.bus() as bus:
        broken = await failed(bus, orders(500))
        broken._times = 0
        while page := bus.dead_letters("risk", limit=120):
            assert bus.admin.redrive("risk", letter_ids=[k.letter_id for k in page[:100]]) == len(page[:100])
            await bus.join()
            gone = [k.letter_id for k in page[100:]]
            assert bus.admin.drop_dead_letters("risk", letter_ids=[*gone, 10**9]) == len(gone)
        assert len(broken.handled) == 420
        assert counts(bus, "risk") == {0}


@virtual
async def test_with_a_journal_memory_holds_few_of_many_letters(tmp_path: Path):
    settings = PersistenceConfig(path=tmp_path / "firm.db", socket=False)
    async with EventBus(1_000, history_size=10, persistence_config=settings) as bus:

        async def fail(_event: Any) -> None:
            raise ValueError("no")

        bus.subscribe("*", fail, name="risk", **ONCE)
        tracemalloc.start()
        for low in range(0, 8_000, 500):
            text = "x" * 4_000
            await bus.publish_many([an_order(text + str(n)) for n in range(low, low + 500)])
            await bus.join()
        await bus.flush()
        gc.collect()
        texts = [one.size for one in tracemalloc.take_snapshot().traces if 4_000 <= one.size < 8_000]
        tracemalloc.stop()
        assert bus.dead_letter_counts() == {"risk": 8_000}
        assert len(texts) < 1_200, "each letter has a text of 4,000 characters"


@virtual
async def test_without_a_journal_the_oldest_beyond_the_bound_are_let_go_counted_and_loud(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(module, "KEPT_MOST", 100)
    async with EventBus() as bus:
        broken = await failed(bus, orders(130))
        assert counts(bus, "risk") == {100}
        assert bus.dead_letters()[0].event.order_id == "o-31", "the newest are kept"
        assert bus.get_status()["letters"]["let_go"] == {"risk": 30}
        assert "dead letters were let go" in caplog.text
        result = await bus.check_health()
        (finding,) = (f for f in result.findings if f.check == "dead letters")
        assert not result.is_healthy
        assert (finding.culprit, "30" in finding.detail) == ("risk", True)
        broken._times = 0
        assert bus.admin.redrive("risk") == 100
        await bus.join()
        assert (await bus.check_health()).is_healthy, "the operator has seen to it"


# -- filters ------------------------------------------------------------------------------------------


@virtual
async def test_letters_are_chosen_by_every_condition_together(kind: Kind):
    async with kind.bus() as bus:
        broken = await failed(bus, [*orders(2), a_fill("f-1")])
        await asyncio.sleep(5)
        await bus.publish_many(orders(2, first=3))
        await bus.join()
        letters = bus.dead_letters()
        later = letters[-1].wall_ns
        broken._times = 0
        assert bus.admin.drop_dead_letters(event_type="nothing") == 0
        assert bus.admin.drop_dead_letters(letter_ids=[]) == 0
        assert bus.admin.drop_dead_letters("risk", event_type="order", since_ns=later) == 2
        assert bus.admin.redrive("risk", event_type="fill", until_ns=later) == 1
        await bus.join()
        assert broken.ids == [letter.event.event_id for letter in letters if letter.event_type == "fill"]
        assert counts(bus, "risk") == {2}
        for wrong in (
            {"event_type": "FILL"},
            {"event_type": "FillEvent"},
            {"event_type": "fill,order"},
            {"colour": "red"},
            {"letter_ids": 5},
            {"letter_ids": ["a"]},
            {"event_type": 5},
            {"since_ns": 1.5},
            {"until_ns": "2025-11-24"},
        ):
            for verb in (bus.admin.redrive, bus.admin.drop_dead_letters):
                with pytest.raises(ConfigError):
                    verb(**wrong)
        assert counts(bus, "risk") == {2}


@virtual
async def test_a_letter_whose_type_the_new_handler_does_not_take_stays_and_is_reported(
    kind: Kind, caplog: pytest.LogCaptureFixture
):
    async with kind.bus() as bus:
        broken = await failed(bus, [*orders(1), a_fill()])
        bus.unsubscribe("*", broken.on_event)
        mended = Desk()
        bus.subscribe("fill", mended.on_event, name="risk")
        assert bus.admin.redrive("risk") == 1
        await bus.join()
        assert mended.types == ["fill"]
        assert "it does not take 'order'" in caplog.text
        assert counts(bus, "risk") == {1}


# -- while a redrive is under way ---------------------------------------------------------------------


@virtual
async def test_a_second_redrive_takes_what_the_first_has_not(kind: Kind):
    async with kind.bus() as bus:
        broken = await failed(bus, orders(300))
        broken._times = 0
        last = bus.dead_letters()[-1].letter_id
        bus.subscription("risk").pause()
        assert bus.admin.redrive("risk", letter_ids=[last]) == 1
        assert bus.admin.redrive("risk") == 299
        assert bus.admin.redrive("risk") == 0
        assert bus.get_status()["letters"]["redriving"] == 300
        assert counts(bus, "risk") == {300}, "a letter stays until its event is settled"
        bus.subscription("risk").resume()
        await bus.join()
        assert len(broken.handled) == 300
        assert counts(bus, "risk") == {0}


@virtual
async def test_what_fails_again_is_one_letter_with_the_attempts_of_both(kind: Kind):
    async with kind.bus() as bus:
        broken = await failed(bus, orders(3))
        for attempts in (2, 3, 4):
            assert bus.admin.redrive("risk") == 3
            await bus.join()
            assert [letter.attempts for letter in bus.dead_letters("risk")] == [attempts] * 3
            assert counts(bus, "risk") == {3}
        if kind.disk is not None:
            await bus.flush()
            assert [letter.attempts for letter in kind.disk.journal.buried()] == [4] * 3
        assert broken.handled == []


@virtual
async def test_dropping_while_letters_are_redriven_leaves_those_that_were_handed_over(kind: Kind):
    async with kind.bus() as bus:
        broken = await failed(bus, orders(1_000))
        bus.unsubscribe("*", broken.on_event)
        gate = Gate()
        bus.subscribe("*", gate.on_event, name="risk")
        assert bus.admin.redrive("risk") == 1_000
        await pause_until(lambda: bool(gate.begun))
        dropped = bus.admin.drop_dead_letters("risk")
        assert 0 < dropped < 1_000
        assert counts(bus, "risk") == {1_000 - dropped}
        gate.open()
        await bus.join()
        assert len(gate.handled) == 1_000 - dropped
        assert counts(bus, "risk") == {0}


@virtual
async def test_letters_whose_subscription_ends_while_they_are_redriven_stay(kind: Kind):
    async with kind.bus() as bus:
        broken = await failed(bus, orders(400))
        bus.unsubscribe("*", broken.on_event)
        gate = Gate()
        bus.subscribe("*", gate.on_event, name="risk")
        assert bus.admin.redrive("risk") == 400
        await pause_until(lambda: bool(gate.begun))
        bus.unsubscribe("*", gate.on_event)
        assert counts(bus, "risk") == {400}, "one is in its handler, the others were withdrawn"
        mended = Desk()
        bus.subscribe("*", mended.on_event, name="risk")
        assert bus.admin.redrive("risk") == 399
        await asyncio.sleep(1)
        assert counts(bus, "risk") == {1}
        gate.open()
        await bus.join()
        assert counts(bus, "risk") == {0}
        assert len(gate.handled) + len(mended.handled) == 400


@virtual
async def test_a_redriven_call_that_fails_after_its_subscription_ended_leaves_its_letter(kind: Kind):
    retry = RetryPolicy(attempts=3, first_s=0.01, jitter=0)
    policies: list[tuple[Any, int]] = [(False, 2), (retry, 1)]
    for policy, attempts in policies:
        async with kind.bus() as bus:
            bus.admin.drop_dead_letters()
            event = an_order(f"o-{attempts}")
            broken = await failed(bus, [event])
            bus.unsubscribe("*", broken.on_event)
            held = asyncio.Event()

            async def late(_event: Any, held: asyncio.Event = held) -> None:
                await held.wait()
                raise ValueError("late")

            bus.subscribe("*", late, name="risk", retry=policy)
            assert bus.admin.redrive("risk") == 1
            await asyncio.sleep(0.01)
            bus.unsubscribe("*", late)
            held.set()
            await asyncio.sleep(1)
            (letter,) = bus.dead_letters("risk")
            assert (letter.event.event_id, letter.attempts) == (event.event_id, attempts)
            mended = Desk()
            bus.subscribe("*", mended.on_event, name="risk")
            assert bus.admin.redrive("risk") == 1
            await bus.join()
            assert mended.ids == [event.event_id]
            assert counts(bus, "risk") == {0}


@virtual
async def test_a_type_that_is_given_up_while_it_is_redriven_keeps_its_letters(kind: Kind):
    async with kind.bus() as bus:
        broken = Failing()
        bus.subscribe(["order", "fill"], broken.on_event, name="risk", **ONCE)
        await bus.publish_many([*orders(2), a_fill()])
        await bus.join()
        broken._times = 0
        bus.subscription("risk").pause()
        assert bus.admin.redrive("risk") == 3
        bus.unsubscribe("order", broken.on_event)
        bus.subscription("risk").resume()
        await bus.join()
        assert broken.types == ["fill"]
        assert [letter.event_type for letter in bus.dead_letters("risk")] == ["order", "order"]
        bus.subscribe("order", broken.on_event)
        assert bus.admin.redrive("risk") == 2
        await bus.join()
        assert counts(bus, "risk") == {0}


@virtual
@pytest.mark.parametrize("ends", ["conflated", "expired", "superseded"])
async def test_a_redriven_event_that_ends_as_its_subscriber_asked_leaves_no_letter(kind: Kind, ends: str):
    every: dict[str, dict[str, Any]] = {
        "conflated": {"overflow": Conflate("symbol")},
        "expired": {"max_age_s": 0.5},
        "superseded": {"supersede": "symbol"},
    }
    async with kind.bus() as bus:
        broken = await failed(bus, [a_tick(1.0)])
        bus.unsubscribe("*", broken.on_event)
        gate = Gate()
        bus.subscribe("*", gate.on_event, name="risk", **every[ends])
        if ends == "superseded":
            assert bus.admin.redrive("risk") == 1
            await pause_until(lambda: len(gate.begun) == 1)
            await bus.publish(a_tick(2.0))
        else:
            await bus.publish(a_tick(2.0, "NQ"))
            await pause_until(lambda: len(gate.begun) == 1)
            assert bus.admin.redrive("risk") == 1
            await bus.publish(an_order("wakes it"))
            await bus.publish(a_tick(3.0))
        await asyncio.sleep(1)
        gate.open()
        await bus.join()
        rows = [r for r in bus.ledger().rows if r.subscription == "risk"]
        assert sum(r.conflated + r.expired for r in rows) >= 1, "also one that something newer had replaced"
        assert counts(bus, "risk") == {0}
        assert_settled(bus)


@virtual
async def test_a_kill_switch_is_redriven_also_to_a_subscription_that_is_paused(kind: Kind):
    async with kind.bus() as bus:
        broken = await failed(bus, [])
        await bus.publish(a_kill())
        await bus.join()
        broken._times = 0
        bus.subscription("risk").pause()
        assert bus.admin.redrive("risk") == 1
        await pause_until(lambda: broken.types == ["kill_switch"])
        bus.subscription("risk").resume()
        await bus.join()
        assert counts(bus, "risk") == {0}


@virtual
async def test_concurrent_workers_share_a_redrive(kind: Kind):
    async with kind.bus() as bus:
        broken = await failed(bus, orders(700))
        bus.unsubscribe("*", broken.on_event)
        desk = Desk(takes_s=0.01)
        bus.subscribe("*", desk.on_event, name="risk", concurrency=200)
        assert bus.admin.redrive("risk") == 700
        await bus.join()
        assert len(desk.handled) == 700
        assert desk.most_at_once > 100
        assert counts(bus, "risk") == {0}


@virtual
async def test_a_stop_in_the_middle_of_a_redrive_keeps_what_was_not_handled(kind: Kind):
    bus = kind.bus()
    await bus.start()
    broken = await failed(bus, orders(1_000))
    bus.unsubscribe("*", broken.on_event)
    slow = Desk(takes_s=0.01)
    bus.subscribe("*", slow.on_event, name="risk")
    assert bus.admin.redrive("risk") == 1_000
    await asyncio.sleep(1)
    await bus.stop(timeout_s=0)
    done = len(slow.handled)
    assert 50 < done < 200
    assert sum(bus.dead_letter_counts().values()) == 1_000 - done
    await bus.start()  # it goes on
    await bus.join()
    assert len(slow.handled) == 1_000
    assert counts(bus, "risk") == {0}
    await bus.stop()


@virtual
async def test_letters_move_with_a_cursor_that_is_reassigned_however_many_there_are(kind: Kind):
    if kind.disk is None:
        return
    async with kind.bus() as bus:
        await failed(bus, orders(600), name="old")
    journal = kind.disk.restarted()
    async with a_bus(journal) as bus:
        await bus.admin.reassign_cursor("old", "new")
        assert bus.dead_letter_counts() == {"new": 600}
        assert {letter.subscription for letter in journal.buried()} == {"new"}
        desk = Desk()
        bus.subscribe("*", desk.on_event, name="new")
        assert bus.admin.redrive() == 600
        await bus.join()
        assert len(desk.handled) == 600
        assert bus.dead_letters() == []
    assert journal.buried() == []


class Unsure(MemoryJournal):
    """A journal whose writes reach the disk, and can fail all the same."""

    fails = False

    def write(self, entries: Any, changes: Any = None) -> Any:
        written = super().write(entries, changes)
        if self.fails:
            raise JournalDead("nobody knows whether this was written")
        return written


@virtual
async def test_a_letter_whose_commit_failed_is_one_letter_also_if_it_was_written():
    journal = Unsure()
    bus = a_bus(journal)

    async def handle(_order: Any) -> None:
        journal.fails = True
        raise ValueError

    bus.subscribe("order", handle, name="risk", retry=False)
    await bus.start()
    await bus.publish(an_order())
    await asyncio.sleep(2)
    assert len(journal.buried()) == len(bus.dead_letters("risk")) == 1
    assert bus.admin.drop_dead_letters("risk") == 1
    assert bus.dead_letters("risk") == []
    assert bus.dead_letter_counts() == {}
    await bus.stop()


@virtual
async def test_on_an_idle_bus_a_letter_leaves_the_journal_soon_after_its_event_was_handled():
    journal = MemoryJournal()
    async with a_bus(journal, cursor_save_s=0.25) as bus:
        broken = await failed(bus, orders(1))
        bus.unsubscribe("*", broken.on_event)
        slow = Desk(takes_s=5)
        bus.subscribe("*", slow.on_event, name="risk")
        await asyncio.sleep(2)
        assert bus.admin.redrive() == 1
        await asyncio.sleep(4)
        assert len(journal.buried()) == 1
        await asyncio.sleep(1 + 0.3)
        assert len(slow.handled) == 1
        assert journal.buried() == [], "a crash from here on finds no letter of what was handled"


# -- anew ---------------------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize("anew", [False, True])
async def test_a_redrive_keeps_derived_ids_and_one_that_is_anew_does_not(kind: Kind, anew: bool):
    if kind.disk is None:
        return
    broken, tries = True, 0
    async with kind.bus() as bus:
        out = Desk()

        async def decide(order: OrderEvent) -> None:
            nonlocal tries
            await bus.publish(a_fill(order.order_id))
            tries += 1
            if broken or tries % 2 == 1:
                raise ValueError("after it was published")

        bus.subscribe("order", decide, name="desk", retry=RetryPolicy(attempts=2, first_s=0.01))
        bus.subscribe("fill", out.on_event, name="out")
        await bus.publish(an_order())
        await bus.join()
        assert len(out.handled) == 1, "the second attempt has the id of the first"
        broken, tries = False, 0
        assert bus.admin.redrive("desk", anew=anew) == 1
        await bus.join()
        assert tries == 2, "the redriven event was tried twice, with the same ids"
        assert len(set(out.ids)) == len(out.handled) == (2 if anew else 1)
        assert bus.dead_letters() == []


@virtual
async def test_a_crash_in_the_middle_of_a_redrive_anew_leaves_the_letter_and_its_ids(kind: Kind):
    if kind.disk is None:
        return

    def desk(bus: EventBus, gate: asyncio.Event | None) -> None:
        async def decide(order: OrderEvent) -> None:
            await bus.publish(a_fill(order.order_id))
            if gate is None:
                raise ValueError("no")
            await gate.wait()

        bus.subscribe("order", decide, name="desk", retry=False)

    bus = kind.bus()
    await bus.start()
    desk(bus, None)
    await bus.publish(an_order())
    await bus.join()
    journal = await kind.disk.crash(bus)
    for life in range(2):
        bus = a_bus(journal)
        gate = asyncio.Event()
        desk(bus, gate)
        await bus.start()
        assert bus.admin.redrive(anew=True) == 1
        await asyncio.sleep(0.1)
        if life == 0:
            journal = await kind.disk.crash(bus)
            assert len(journal.buried()) == 1
    gate.set()
    await bus.join()
    fills = [stored for stored in journal.read(0, 100) if b"fill" in stored.payload]
    assert len(fills) == 2, "one of the first time, and one of the redrive, which was begun twice"
    assert bus.dead_letters() == []
    await bus.stop()


@virtual
async def test_with_an_outbox_the_outputs_and_the_end_of_the_letter_are_one_commit(kind: Kind):
    if kind.disk is None:
        return
    is_broken = True
    bus = kind.bus(cursor_save_s=3600)

    async def decide(order: OrderEvent) -> None:
        if is_broken:
            raise ValueError("no")
        await bus.publish(a_fill(order.order_id))

    bus.subscribe("order", decide, name="desk", retry=False, outbox=True)
    await bus.start()
    await bus.publish(an_order())
    await bus.join()
    is_broken = False
    written: list[tuple[int, int]] = []
    write = kind.disk.journal.write

    def noted(entries: Any, changes: Any = None) -> Any:
        written.append((len(entries), 0 if changes is None else len(changes.removed_letters)))
        return write(entries, changes)

    kind.disk.journal.write = noted
    assert bus.admin.redrive("desk") == 1
    await bus.join()
    await bus.stop()
    assert [removed for entries, removed in written if entries] == [1], "neither without the other"


# -- at the limits ------------------------------------------------------------------------------------


@virtual
async def test_a_redrive_goes_on_behind_a_mailbox_that_is_full_of_other_events():
    async with EventBus(10) as bus:
        broken = await failed(bus, orders(3))
        bus.unsubscribe("*", broken.on_event)
        gate = Gate()
        bus.subscribe("*", gate.on_event, name="risk")
        for number in range(9):
            bus.publish_nowait(a_tick(float(number)))
        await asyncio.sleep(0.01)
        assert bus.admin.redrive("risk") == 3
        await asyncio.sleep(0.01)
        assert bus.subscription("risk").mailbox.waiting <= 10
        gate.open()
        await bus.join()
        assert sorted(e.order_id for e in gate.handled if e.event_type == "order") == ["o-1", "o-2", "o-3"]


@virtual
async def test_a_redriven_tick_never_takes_the_place_of_a_newer_one(kind: Kind):
    several: list[dict[str, Any]] = [{"overflow": Conflate("symbol")}, {"supersede": "symbol"}]
    for asked in several:
        async with kind.bus() as bus:
            broken = await failed(bus, [a_tick(1.0), a_tick(2.0), a_tick(3.0, "NQ")])
            bus.unsubscribe("*", broken.on_event)
            gate = Gate()
            bus.subscribe("*", gate.on_event, name="risk", **asked)
            await bus.publish(a_tick(9.0, "CL"))
            await asyncio.sleep(0.01)
            await bus.publish(a_tick(7.0))
            assert bus.admin.redrive("risk") == 3
            await asyncio.sleep(0.01)
            gate.open()
            await bus.join()
            assert [e.price for e in gate.handled if e.symbol == "ES"] == [7.0]
            assert [e.price for e in gate.handled if e.symbol == "NQ"] == [3.0]
            assert counts(bus, "risk") == {0}


@virtual
async def test_of_redriven_ticks_of_one_key_the_newest_counts():
    async with EventBus() as bus:
        prices = [float(number) for number in range(300)]
        broken = await failed(bus, [a_tick(price) for price in prices])
        bus.unsubscribe("*", broken.on_event)
        gate = Gate()
        bus.subscribe("*", gate.on_event, name="risk", overflow=Conflate("symbol"))
        assert bus.admin.redrive("risk") == 300
        await pause_until(lambda: bool(gate.begun))
        gate.open()
        await bus.join()
        assert [e.price for e in gate.handled][-1] == 299.0
        assert bus.dead_letters() == []


# -- kill -9 ------------------------------------------------------------------------------------------


def live(folder: Path, scene: str, killed_at: int | None = None) -> None:
    """Let a child live a scene, and kill it once it has handled so many events."""
    program = str(Path(__file__).with_name("letters_child.py"))
    child = subprocess.Popen([sys.executable, program, str(folder), scene])
    handled = folder / "handled"
    while killed_at is not None and child.poll() is None:
        if handled.exists() and handled.read_text().count("\n") >= killed_at:
            child.kill()
            break
    assert child.wait(300) in (0, -9)


def test_a_redrive_that_is_killed_loses_no_letter_and_can_be_repeated(tmp_path: Path):
    live(tmp_path, "bury")
    every = {f"e-{number}" for number in range(600)}
    with JournalReader(tmp_path / "firm.db") as reader:
        assert {letter.event_id for letter in map(_event_of, reader.buried())} == every
    for killed_at in (1, 150, 400):
        live(tmp_path, "redrive", killed_at)
        handled = set((tmp_path / "handled").read_text().split())
        with JournalReader(tmp_path / "firm.db") as reader:
            left = {letter.event_id for letter in map(_event_of, reader.buried())}
        assert left | handled == every, "what was not handled is a letter"
    live(tmp_path, "rest")
    assert set((tmp_path / "handled").read_text().split()) == every
    with JournalReader(tmp_path / "firm.db") as reader:
        assert reader.buried() == []


def _event_of(letter: Any) -> Any:
    return decode(letter.payload)
