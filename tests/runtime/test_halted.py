"""The state of the kill switch (CONTRACT 36): kept, known before anybody handles anything, folded, released with leave."""

import asyncio
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bus_helpers import (
    Desk,
    Gate,
    a_kill,
    an_order,
    assert_balanced,
    assert_settled,
    outcome_of,
    row,
    virtual,
)
from durable_kit import Disk, Faulty, Named, a_bus, orders

from openoutcry import (
    ConfigError,
    Event,
    EventBus,
    KillSwitchEvent,
    NotAuthorised,
    PersistenceConfig,
    WrongThread,
)
from openoutcry.core.overflow import EACH_MOST
from openoutcry.errors import JournalDead, JournalFull, OpenOutcryError
from openoutcry.journals import JournalReader, MemoryJournal, recover_into


def active(bus: EventBus, scope: str = "firm") -> list[str]:
    return [halt.event_id for halt in bus.halted(scope)]


@pytest.fixture(params=["memory", "file"])
def disk(request, tmp_path):
    disk = Disk(request.param, tmp_path / "disk")
    yield disk
    disk.close()


# -- the state -----------------------------------------------------------------------------------------------


@virtual
async def test_a_bus_tells_what_is_halted_by_whom_why_and_since_when():
    async with EventBus() as bus:
        assert not bus.halted()
        kill = a_kill(scope="ES", reason="loss limit", source_agent="risk", triggered_by="a rule")
        await bus.publish(kill)
        (halt,) = bus.halted("ES")
        assert (halt.event_id, halt.scope, halt.reason, halt.by) == (
            kill.event_id,
            "ES",
            "loss limit",
            "a rule",
        )
        assert halt.since_ns == bus._bus.clock.wall_ns()
        assert not bus.halted("NQ")
        assert not bus.halted("firm")
        await bus.publish(a_kill(source_agent="desk"))
        assert [h.by for h in bus.halted("NQ")] == ["desk"]
        assert len(bus.halted("ES")) == 2
        assert bus.get_status()["halts"] == {
            "count": 2,
            "active": [h.to_dict() for h in bus._bus.halts.all()],
        }
        msgspec.json.encode(bus.get_status())
        with pytest.raises(WrongThread):
            await asyncio.to_thread(bus.halted)


@virtual
async def test_the_bus_informs_and_blocks_nothing():
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe("order", desk.on_event)
        await bus.publish(a_kill())
        assert await bus.publish(an_order())
        await bus.join()
    assert len(desk.handled) == 1


@virtual
async def test_halts_are_known_after_a_crash_before_any_handler_runs(disk):
    desk = Named("desk")
    bus = a_bus(disk.journal)
    bus.subscribe("*", desk.on_event)
    await bus.start()
    first, second = a_kill(reason="a"), a_kill(scope="ES", reason="b")
    await bus.publish(first)
    await bus.publish(second)
    await bus.join()
    bus, seen = a_bus(await disk.crash(bus)), []

    async def on_event(event: Any) -> None:
        seen.append(active(bus, "ES"))

    bus.subscribe("*", on_event, name="desk.on_event")
    bus.subscribe("*", Named("new").on_event, durable=False)
    assert active(bus, "ES") == [first.event_id, second.event_id], "also before the start"
    await bus.publish(an_order("o-2"))
    await bus.start()
    await bus.join()
    assert seen
    assert all(ids == [first.event_id, second.event_id] for ids in seen)
    await bus.stop()


@virtual
async def test_halts_are_kept_past_retention(disk):
    desk, kill = Named("desk"), a_kill(scope="ES")
    async with a_bus(disk.journal) as bus:
        bus.subscribe("*", desk.on_event)
        await bus.publish(kill)
        for order in orders(10):
            await bus.publish(order)
        await bus.join()
        await bus.flush()
        while disk.journal.retire(keep_count=1):
            pass
        assert disk.journal.find(kill.event_id) is None
        assert await bus.publish(kill), "an active kill switch is a duplicate however old it is"
        assert bus.metrics.duplicates == 1
    async with a_bus(disk.restarted()) as bus:
        assert active(bus, "ES") == [kill.event_id]


class _Spied(MemoryJournal):
    """Notes after each commit which kill switches it brought, and which are active."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[tuple[set[str], set[str]]] = []

    def write(self, entries: Any, changes: Any = None) -> Any:
        written = super().write(entries, changes)
        ids = {entry.event_id for entry in entries if entry.lane == "control"}
        self.images.append((ids, {halt.event_id for halt in self.halts()}))
        return written


@virtual
async def test_a_halt_is_saved_in_the_commit_of_its_kill_switch():
    """Whatever a crash leaves: both, or neither."""
    journal = _Spied()
    bus = a_bus(journal)
    bus.subscribe("kill_switch", Named("desk").on_event)
    async with bus:
        kills = [a_kill(scope=f"s-{n}") for n in range(5)]
        for kill in kills[:3]:
            await bus.publish(kill)
        await bus.publish_many(kills[3:])
    published: set[str] = set()
    for ids, halts in journal.images:
        published |= ids
        assert halts == published
    assert len(published) == 5


@virtual
async def test_a_halt_that_a_full_disk_kept_out_is_saved_with_the_next_commit():
    journal = Faulty()
    async with a_bus(journal) as bus:
        bus.subscribe("*", Named("desk").on_event)
        journal.fail_next("write", JournalFull("no room"))
        kill = a_kill()
        assert await bus.publish(kill)
        assert journal.halts() == []
        assert active(bus) == [kill.event_id]
        await bus.publish(an_order())
        assert [halt.event_id for halt in journal.halts()] == [kill.event_id]


@virtual
async def test_a_kill_switch_that_only_its_halt_has_survived_is_delivered_when_it_is_published_again():
    """CONTRACT 2: a duplicate is what was accepted at its level; this one was never in the journal."""
    journal, gate, desk, kill = Faulty(), Gate(), Desk(), a_kill()
    bus = a_bus(journal)
    bus.subscribe("kill_switch", gate.on_event, name="desk")
    await bus.start()
    journal.fail_next("write", JournalFull("no room"))
    await bus.publish(kill)
    await bus.publish(an_order())
    again = a_bus(journal.reopened())
    await bus.stop(timeout_s=0)
    again.subscribe("kill_switch", desk.on_event, name="desk")
    async with again:
        assert active(again) == [kill.event_id]
        assert await again.publish(kill)
        await again.join()
        assert desk.handled == [kill]
        assert active(again) == [kill.event_id]


@virtual
async def test_a_commit_that_fails_before_the_start_leaves_what_was_folded_into_it_where_it_was():
    journal, desk = Faulty(), Desk()
    bus = a_bus(journal)
    bus.subscribe("kill_switch", desk.on_event, name="desk", durable=False)
    first, second, third = a_kill(), a_kill(), a_kill()
    await bus.publish(first)
    journal.fail_next("write", JournalFull("no room"))
    outcomes = await asyncio.gather(*(outcome_of(bus.publish(one)) for one in (second, third)))
    assert all(isinstance(error, JournalFull) for error in outcomes)
    assert active(bus) == [first.event_id]
    async with bus:
        await bus.join()
        assert desk.handled == [first]
        assert_settled(bus)


@virtual
async def test_without_a_journal_the_state_lives_as_long_as_the_bus():
    bus = EventBus()
    releaser = bus.releaser("risk")
    await bus.publish(a_kill(scope="ES"))
    await bus.start()
    await bus.stop()
    await bus.start()
    assert len(bus.halted("ES")) == 1
    await releaser.release(scope="ES", reason="over")
    assert not bus.halted("ES")
    await bus.stop()


@virtual
async def test_a_journal_that_was_not_opened_yet_is_not_taken_for_one_without_halts():
    bus = a_bus(MemoryJournal())
    assert bus.get_status()["halts"] is None
    assert bus.halted() == ()
    assert bus.get_status()["halts"] == {"count": 0, "active": []}
    await bus.stop()


def test_outside_of_a_loop_an_unopened_journal_is_an_error_and_not_an_empty_answer(tmp_path):
    bus = EventBus(persistence_config=PersistenceConfig(path=tmp_path / "firm.db"))
    with pytest.raises(OpenOutcryError, match="not open yet"):
        bus.halted()


@virtual
async def test_a_recovery_beside_the_running_bus_keeps_the_halts(tmp_path: Path):
    path = tmp_path / "firm.db"
    bus = EventBus(persistence_config=PersistenceConfig(path=path, socket=False, engine="sqlite3"))
    bus.subscribe("*", Named("desk").on_event)
    async with bus:
        kill, late = a_kill(), a_kill(scope="ES")
        await bus.publish(kill)
        await bus.join()
        bus._admission.store.commits._died(JournalDead("gone"))
        assert await bus.publish(late), "delivered, and not in the journal"
        await bus.admin.recover_journal()
        await bus.flush()
    with JournalReader(path) as reader:
        assert {halt.event_id for halt in reader.halts()} == {kill.event_id, late.event_id}
    recover_into(path, tmp_path / "new.db")
    with JournalReader(tmp_path / "new.db") as reader:
        assert len(reader.halts()) == 2


# -- releasing -----------------------------------------------------------------------------------------------


@virtual
async def test_a_release_ends_what_is_active_in_its_scope_and_says_which_ids(disk):
    desk = Named("desk")
    bus = a_bus(disk.journal)
    releaser = bus.releaser("risk-officer")
    bus.subscribe("kill_switch", desk.on_event)
    async with bus:
        kills = [a_kill(scope="ES"), a_kill(scope="ES"), a_kill(scope="NQ"), a_kill()]
        for kill in kills:
            await bus.publish(kill)
        release = await releaser.release(scope="ES", reason="reviewed")
        assert release.releases == (kills[0].event_id, kills[1].event_id)
        assert (release.source_agent, release.reason, release.activated) == (
            "risk-officer",
            "reviewed",
            False,
        )
        assert active(bus, "ES") == [kills[3].event_id], "the firm is halted still"
        await bus.join()
        assert desk.handled[-1].releases == release.releases
        assert await bus.publish(kills[0]), "a duplicate, also after its release"
        assert active(bus, "ES") == [kills[3].event_id]
    async with a_bus(disk.restarted()) as bus:
        assert active(bus, "NQ") == [kills[3].event_id, kills[2].event_id]
        assert not bus._bus.halts.inside("ES")


@virtual
async def test_ids_are_released_one_by_one():
    bus = EventBus()
    releaser = bus.releaser("risk")
    async with bus:
        kills = [a_kill(scope="ES") for _ in range(3)] + [a_kill(scope="NQ")]
        await bus.publish_many(kills)
        release = await releaser.release(ids=[kills[1].event_id], reason="that was me")
        assert (release.scope, release.releases) == ("ES", (kills[1].event_id,))
        assert active(bus, "ES") == [kills[0].event_id, kills[2].event_id]
        for ids, scope in (
            (["unknown"], None),
            ([kills[1].event_id], None),
            ([kills[0].event_id], "NQ"),
            ([kills[0].event_id, kills[3].event_id], None),
            ([], None),
        ):
            with pytest.raises(ConfigError):
                await releaser.release(ids=ids, scope=scope, reason="no")
        assert len(active(bus, "ES")) == 2


@virtual
async def test_an_event_that_was_released_before_by_name_works_and_is_deprecated():
    async with EventBus(kill_switch_releasers={"risk"}) as bus:
        await bus.publish_many([a_kill(), a_kill(scope="ES")])
        release = a_kill(activated=False, source_agent="risk")
        with pytest.warns(DeprecationWarning, match=r"take bus.releaser\('risk'\)"):
            assert await bus.publish(release)
        assert len(release.releases) == 1
        assert [h.scope for h in bus._bus.halts.all()] == ["ES"]


@virtual
async def test_a_releaser_can_be_taken_once_per_name_and_before_the_start():
    bus = EventBus(kill_switch_releasers={"risk"})
    bus.releaser("risk")
    with pytest.raises(NotAuthorised, match="taken before"):
        bus.releaser("risk")
    wrong: list[Any] = ["", None, 3]
    for name in wrong:
        with pytest.raises(ConfigError):
            bus.releaser(name)
    async with bus:
        with pytest.raises(NotAuthorised, match="after the start"):
            bus.releaser("desk")
    with pytest.raises(NotAuthorised):
        bus.releaser("desk")


class Sub(KillSwitchEvent, kw_only=True):
    """A subclass."""


@dataclass
class Double:
    """Looks like a release."""

    event_id: str
    source_agent: str = "risk"
    activated: bool = False
    scope: str = "firm"
    releases: tuple[str, ...] = ()
    reason: str = "reviewed"
    triggered_by: str = "risk"
    event_type: str = "kill_switch"


def _forged(real: KillSwitchEvent) -> list[Any]:
    fields = {name: getattr(real, name) for name in real.__struct_fields__ if name != "event_type"}
    return [
        real,
        KillSwitchEvent(**fields),
        msgspec.structs.replace(real),
        msgspec.structs.replace(real, event_id="another"),
        Sub(**fields),
        Double(real.event_id),
        Double("another"),
    ]


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("durable", [True, False])
@virtual
async def test_a_release_in_a_name_that_was_taken_is_refused_however_it_is_published(durable, listed):
    """With every field equal, the releaser's own event, a subclass, a class of one's own."""
    names = {"risk"} if listed else set()
    bus = EventBus(kill_switch_releasers=names)
    if durable:
        bus = a_bus(MemoryJournal(), kill_switch_releasers=names)
    releaser, desk, seen = bus.releaser("risk"), Desk(), []

    async def agent(event: Any) -> None:
        seen.extend([await outcome_of(bus.publish(one)) for one in _forged(real)])

    bus.subscribe("kill_switch", desk.on_event, name="desk")
    bus.subscribe("order", agent, name="agent", outbox=durable)
    async with bus:
        await bus.publish(a_kill())
        real = await releaser.release(reason="reviewed")
        await bus.publish(a_kill())
        for one in _forged(real):
            answers = [
                await outcome_of(bus.publish(one)),
                await outcome_of(bus.publish(one, True)),
                await outcome_of(bus.publish_many([one])),
                await outcome_of(bus.publish_receipt(one)),
                await outcome_of(_nowait(bus, one)),
                await outcome_of(asyncio.wrap_future(bus.publish_threadsafe(one))),
                await outcome_of(asyncio.wrap_future(await asyncio.to_thread(bus.publish_threadsafe, one))),
            ]
            assert all(isinstance(answer, NotAuthorised) for answer in answers), answers
        await bus.publish(an_order())
        await bus.join()
        assert len(seen) == 7
        assert all(isinstance(answer, NotAuthorised) for answer in seen)
        assert len(active(bus)) == 1, "nothing was released"
        await releaser.release(reason="now")
        await bus.join()
        assert not active(bus)
        assert sum(not event.activated for event in desk.handled) == 2


async def _nowait(bus: EventBus, event: Any) -> bool:
    return bus.publish_nowait(event)


@virtual
async def test_a_release_whose_source_is_no_text_is_refused():
    async with EventBus(kill_switch_releasers={"risk"}) as bus:
        sources: list[Any] = [None, 3, ["risk"], {"risk"}]
        for source in sources:
            double = Double("d", source_agent=source)
            assert isinstance(await outcome_of(bus.publish(double)), NotAuthorised)


@virtual
async def test_a_release_before_the_start_whose_commit_fails_releases_nothing():
    journal = Faulty()
    bus = a_bus(journal)
    releaser = bus.releaser("risk")
    await bus.publish(a_kill())
    journal.fail_next("write", JournalFull("no room"))
    with pytest.raises(JournalFull):
        await releaser.release(reason="over")
    assert len(bus.halted()) == 1
    await releaser.release(reason="over")
    assert not bus.halted()
    async with bus:
        assert not bus.halted()


@virtual
async def test_a_releaser_cannot_release_on_a_stopped_bus():
    bus = EventBus()
    releaser = bus.releaser("risk")
    async with bus:
        await bus.publish(a_kill())
    with pytest.raises(OpenOutcryError, match="stopped"):
        await releaser.release(reason="over")
    assert len(bus._bus.halts) == 1


# -- folding -------------------------------------------------------------------------------------------------


@pytest.fixture
def one_each(monkeypatch):
    """Of each scope one kill switch waits by itself."""
    monkeypatch.setattr("openoutcry.core.overflow.EACH_MOST", 1)
    monkeypatch.setattr("openoutcry.runtime.delivery.before_start.EACH_MOST", 1)


@pytest.mark.usefixtures("one_each")
@virtual
async def test_switches_that_wait_are_folded_per_scope_and_never_across_a_release():
    bus, gate = EventBus(), Gate()
    releaser = bus.releaser("risk")
    bus.subscribe("kill_switch", gate.on_event, name="stuck")
    async with bus:
        kills = [a_kill(scope="ES") for _ in range(7)]
        await bus.publish(kills[0])
        await asyncio.sleep(0.01)
        await bus.publish_many(kills[1:4])
        release = await releaser.release(scope="ES", reason="over")
        await bus.publish_many(kills[4:])
        other = a_kill()
        await bus.publish(other)
        assert set(release.releases) == {kill.event_id for kill in kills[:4]}, "each id stays active"
        assert set(active(bus, "ES")) == {other.event_id, *(kill.event_id for kill in kills[4:])}
        found = row(bus, "stuck", "control")
        assert (found.accepted, found.conflated, found.waiting, found.in_flight) == (9, 4, 4, 1)
        assert_balanced(bus)
        gate.open()
        await bus.join()
        assert gate.handled == [kills[0], kills[3], release, kills[6], other]
        assert_settled(bus)


@pytest.mark.usefixtures("one_each")
@virtual
async def test_what_was_published_before_the_start_is_folded_too_and_counted():
    bus, desk = EventBus(), Desk()
    bus.subscribe("kill_switch", desk.on_event, name="desk")
    kills = [a_kill(scope=f"s-{n % 2}") for n in range(1_000)]
    for kill in kills:
        assert await bus.publish(kill)
    assert len(bus._admission.dispatcher.before_start) == 2
    async with bus:
        await bus.join()
        assert desk.handled == kills[-2:]
        found = row(bus, "desk", "control")
        assert (found.accepted, found.conflated, found.handled) == (1_000, 998, 2)
        assert bus.metrics.control == 1_000
        assert_settled(bus)
        assert len(bus._bus.halts) == 1_000


@pytest.mark.usefixtures("one_each")
@virtual
async def test_what_is_redelivered_after_a_crash_is_folded_and_settled(disk):
    gate, other = Gate(), Named("other")
    bus = a_bus(disk.journal)
    bus.subscribe("kill_switch", gate.on_event, name="stuck")
    await bus.start()
    kills = [a_kill(scope=f"s-{n % 3}") for n in range(60)]
    await bus.publish_many(kills)
    bus, desk = a_bus(await disk.crash(bus)), Desk()
    bus.subscribe("kill_switch", desk.on_event, name="stuck")
    async with bus:
        await bus.join()
        assert desk.handled[-3:] == kills[-3:]
        assert len(desk.handled) <= 4, "one was in the handler"
        assert row(bus, "stuck", "control").conflated >= 56
        assert_settled(bus)
    bus = a_bus(disk.restarted())
    bus.subscribe("kill_switch", other.on_event, name="stuck")
    async with bus:
        await bus.join()
        assert other.handled == []


@pytest.mark.parametrize("durable", [True, False])
@virtual
async def test_memory_stays_bounded_however_many_are_published_behind_a_hung_agent(durable):
    """A thousand ids of a scope are kept; what waits is bounded per scope."""
    bus = EventBus(history_size=100, dedup_window=500)
    if durable:
        bus = a_bus(_Forgetful(), history_size=100, dedup_window=500)
    gate = Gate()
    bus.subscribe("kill_switch", gate.on_event, name="stuck")
    tracemalloc.start()
    async with bus:
        for _ in range(6):
            await bus.publish_many([a_kill() for _ in range(500)])
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(12):
            await bus.publish_many([a_kill() for _ in range(500)])
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < 1_500_000, "6,000 kill switches, which took 600 bytes each"
        assert len(bus._bus.halts) == 9_000
        assert row(bus, "stuck", "control").waiting == EACH_MOST
        gate.open()
        await bus.join()
        assert_settled(bus)


class _Forgetful(MemoryJournal):
    """A journal whose entries are not in this process's memory."""

    def write(self, entries: Any, changes: Any = None) -> Any:
        written = super().write(entries, changes)
        self._batches.clear()
        self._places.clear()
        return written


@virtual
async def test_a_users_own_class_is_a_halt_and_a_release_as_well():
    async with EventBus(kill_switch_releasers={"desk"}) as bus:
        assert await bus.publish(Event(event_type="kill_switch", event_id="plain"))
        assert active(bus) == ["plain"]
        with pytest.warns(DeprecationWarning, match="take bus.releaser"):
            assert await bus.publish(Double("d", source_agent="desk", releases=("plain",)))
        assert not bus.halted()
