"""Seats: one process at a time holds a desk, and one that does not begins nothing."""

import asyncio

import pytest
from bus_helpers import a_fill, a_signal, a_tick, an_order, now_s, virtual
from desk_kit import Desk, passes, running

from openoutcry import EventType, HealthCheckConfig, KillSwitchEvent
from openoutcry.config import Link
from openoutcry.errors import BusClosed, Fenced, JournalLocked, SeatLost, Taken
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.links.memory import MemoryTransport
from openoutcry.links.memory_hub import MemoryHub
from openoutcry.ports import Seat
from openoutcry.runtime.linking import seats


def street(hub, path, **fields):
    return Desk(hub, "street", path, **fields)


async def die(desk):
    """Start a desk, and end it in a way that it cannot give its seat back."""
    await desk.bus.start()
    desk.transport.die()
    await desk.bus.stop(1)


@virtual
async def test_a_desk_that_nobody_holds_is_claimed_at_once(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one")
    async with running(desk):
        assert now_s() < 1
        (seat,) = hub.seats()
        assert seat.holder == desk.linking.joined.seat.holder
        assert set(seat.tokens) == {"high", "normal"}


@virtual
async def test_a_clean_stop_gives_it_back_so_that_the_next_need_not_wait(tmp_path):
    hub = MemoryHub()
    async with running(street(hub, tmp_path / "one")):
        pass
    assert hub.seats()[0].holder == ""
    before_s = now_s()
    async with running(street(hub, tmp_path / "another")):
        assert now_s() - before_s < 1


@virtual
async def test_a_second_process_of_that_name_is_told_who_holds_it(tmp_path):
    hub = MemoryHub()
    first = street(hub, tmp_path / "one")
    async with running(first):
        second = street(hub, tmp_path / "two")
        with pytest.raises(Taken, match=r"street.* is held by .*, which renews its seat: stop that process"):
            await second.bus.start()
        assert now_s() < 10  # the holder renews three times a lease
        assert await first.bus.publish(an_order())


@virtual
async def test_the_desk_of_a_dead_process_is_claimed_at_once_by_who_has_its_journal(tmp_path):
    hub = MemoryHub()
    await die(street(hub, tmp_path / "one"))
    assert hub.seats()[0].holder  # it could not give it back
    before_s = now_s()
    async with running(street(hub, tmp_path / "one")):
        assert now_s() - before_s < 1


@virtual
async def test_a_desk_that_may_not_start_lets_go_of_its_journal_and_may_start_later(tmp_path):
    hub = MemoryHub()
    first, second = (street(hub, tmp_path / name, lease_s=0) for name in ("one", "two"))
    await first.bus.start()
    for _ in range(2):
        with pytest.raises(Taken):
            await second.bus.start()
        with SqliteJournal(tmp_path / "two"):
            pass
    assert await second.bus.publish(an_order("o-1"))
    await first.bus.stop(1)
    async with running(second):
        await second.bus.publish(an_order("o-2"))
    with JournalReader(tmp_path / "two") as reader:
        found = [entry.head().event_type for entry in reader.read(0, 100)]
    assert found.count("order") == 2


@virtual
async def test_another_host_waits_for_a_lease_and_a_quarter(tmp_path, monkeypatch):
    hub = MemoryHub()
    await die(street(hub, tmp_path / "one"))
    monkeypatch.setattr(seats, "this_host", lambda: "another")
    monkeypatch.setattr(seats, "this_file", lambda _path: "another")
    before_s = now_s()
    async with running(street(hub, tmp_path / "one")):
        assert 18.75 <= now_s() - before_s < 21


@virtual
async def test_a_lease_of_0_is_taken_over_by_nobody_else(tmp_path, monkeypatch):
    hub = MemoryHub()
    await die(street(hub, tmp_path / "one", lease_s=0))
    with pytest.raises(Taken, match=r"does not lapse \(lease_s = 0\).*openoutcry firm drop street"):
        await street(hub, tmp_path / "two").bus.start()
    async with running(street(hub, tmp_path / "one", lease_s=0)):
        pass


@virtual
async def test_a_seat_that_is_not_renewed_in_time_holds_everything_until_it_is(tmp_path):
    hub = MemoryHub()
    desk, seen = street(hub, tmp_path / "one"), []
    desk.bus.subscribe([EventType.ORDER, EventType.MARKET_DATA], seen.append, name="gateway")
    async with running(desk):
        hub.cut("street")
        await passes(14)
        assert await desk.bus.publish(an_order("o-1"))
        await passes(0.5)
        assert len(seen) == 1
        await passes(2)
        with pytest.raises(SeatLost, match=r"not renewed for 15 s \(lease_s\).*until the engine answers"):
            await desk.bus.publish(an_order("o-2"))
        await desk.bus.publish(a_tick())
        await passes(5)
        assert len(seen) == 1
        assert desk.bus.subscription("gateway").holds.names() == ["seat"]
        hub.heal("street")
        await passes(2)
        assert len(seen) == 2
        assert await desk.bus.publish(an_order("o-3"))
        await desk.bus.join()
        assert len(seen) == 3


@virtual
async def test_another_container_takes_the_desk_over_at_once_if_it_has_the_file(tmp_path, monkeypatch):
    hub = MemoryHub()
    await die(street(hub, tmp_path / "one", lease_s=0))
    (tmp_path / "volume").mkdir()
    for file in tmp_path.glob("one*"):
        file.rename(tmp_path / "volume" / file.name)
    monkeypatch.setattr(seats, "this_host", lambda: "another")
    async with running(street(hub, tmp_path / "volume" / "one", lease_s=0)):
        pass


@virtual
async def test_a_copy_of_the_journal_proves_nothing(tmp_path, monkeypatch):
    hub = MemoryHub()
    await die(street(hub, tmp_path / "one", lease_s=0))
    (tmp_path / "copy").mkdir()
    for file in tmp_path.glob("one*"):
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(seats, "this_host", lambda: "another")
    with pytest.raises(Taken, match="does not lapse"):
        await street(hub, tmp_path / "copy" / "one", lease_s=0).bus.start()


def test_by_default_a_desk_trades_on_while_its_engine_is_away():
    assert Link(firm="alpha", desk="street").lease_s == 0


@virtual
async def test_a_lease_of_0_trades_on_however_long_the_engine_is_away(tmp_path):
    hub = MemoryHub()
    desk, seen = street(hub, tmp_path / "one", lease_s=0), []
    desk.bus.subscribe(EventType.ORDER, seen.append, name="gateway")
    async with running(desk):
        hub.is_answering = False
        await passes(3_600)
        assert await desk.bus.publish(an_order())
        await passes(0.1)
        assert len(seen) == 1
        hub.is_answering = True


@virtual
async def test_a_holder_that_was_away_while_another_claimed_is_out_for_good(tmp_path):
    hub = MemoryHub()
    first, seen = street(hub, tmp_path / "one"), []
    first.bus.subscribe(EventType.ORDER, seen.append, name="gateway")
    async with running(first):
        hub.cut("street")
        await passes(16)
        other = MemoryTransport(hub, "other")
        await other.open()
        await other.claim(Seat(desk="street", holder="another"), hub.seats()[0])
        hub.heal("street")
        await passes(6)
        with pytest.raises(SeatLost, match=r"another process holds desk 'street'.*must end"):
            await first.bus.publish(an_order())
        assert first.linking.joined.problems["seat"][0] == "fenced"
        await passes(60)
        with pytest.raises(SeatLost):
            await first.bus.publish(an_order("o-2"))
        assert seen == []
        await other.close()
    assert hub.seats()[0].holder == "another"  # it gives back nothing that is not its own


@virtual
async def test_a_call_that_is_running_when_the_seat_is_lost_ends_but_publishes_nothing_durable(tmp_path):
    hub = MemoryHub()
    desk, told = street(hub, tmp_path / "one"), []

    async def slowly(event):
        await asyncio.sleep(20)
        try:
            await desk.bus.publish(an_order("derived"))
        except SeatLost as error:
            told.append(error)

    desk.bus.subscribe(EventType.FILL, slowly, name="slow")
    async with running(desk):
        await desk.bus.publish(a_fill())
        hub.cut("street")
        await passes(25)
        assert len(told) == 1
        hub.heal("street")
        await passes(1)


@virtual
async def test_a_kill_switch_is_handled_and_written_also_without_a_seat_and_goes_out_later(tmp_path):
    hub = MemoryHub()
    desk, floor = street(hub, tmp_path / "one"), Desk(hub, "floor", tmp_path / "floor")
    async with running(desk, floor):
        hub.cut("street")
        await passes(20)
        switch = KillSwitchEvent(reason="now")
        assert await desk.bus.publish(switch)
        await passes(0.1)
        assert switch.event_id in desk.switched
        assert desk.bus.persistence.journal.find(switch.event_id)
        hub.heal("street")
        await passes(5)
        assert floor.switched == [switch.event_id]


@virtual
async def test_a_publisher_in_another_thread_is_told_as_well(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one")
    async with running(desk):
        hub.cut("street")
        await passes(20)
        future = await asyncio.to_thread(desk.bus.publish_threadsafe, an_order())
        with pytest.raises(SeatLost):
            await asyncio.wrap_future(future)
        with pytest.raises(SeatLost):
            await desk.bus.publish_many([an_order("o-1"), an_order("o-2")])
        with pytest.raises(SeatLost):
            await desk.bus.publish_signal(a_signal("momentum"))
        with pytest.raises(SeatLost):
            desk.bus.abstain("momentum", "", "r-1")
        hub.heal("street")
        await passes(3)


@virtual
async def test_one_that_found_its_desk_taken_may_start_when_it_is_free(tmp_path):
    hub = MemoryHub()
    first, second = street(hub, tmp_path / "one"), street(hub, tmp_path / "two")
    async with running(first):
        with pytest.raises(Taken):
            await second.bus.start()
    async with running(second):
        assert await second.bus.publish(an_order())


@virtual
async def test_a_start_that_waits_for_a_lease_can_be_stopped(tmp_path):
    hub = MemoryHub()
    first = street(hub, tmp_path / "one")
    await die(first)
    second = street(hub, tmp_path / "two")
    starting = asyncio.create_task(second.bus.start())
    await passes(5)
    await second.bus.stop(1)
    with pytest.raises(BusClosed):
        await starting
    assert now_s() < 10
    assert hub.seats()[0].holder == first.linking.seats._mine.holder


@virtual
async def test_a_start_without_the_engine_begins_nothing_until_it_has_claimed(tmp_path):
    hub = MemoryHub()
    hub.cut("street")
    desk, seen = street(hub, tmp_path / "one"), []
    desk.bus.subscribe(EventType.ORDER, seen.append, name="gateway")
    async with running(desk):
        with pytest.raises(SeatLost, match="is not held by this process yet"):
            await desk.bus.publish(an_order())
        hub.heal("street")
        await passes(5)
        assert await desk.bus.publish(an_order("o-2"))
        await desk.bus.join()
        assert len(seen) == 1


@virtual
async def test_a_log_that_was_deleted_is_claimed_in_again(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one")
    async with running(desk):
        before = dict(desk.linking.joined.seat.tokens)
        hub.delete("normal")
        await desk.transport.open()
        await desk.linking.seats.claim_again()
        assert desk.linking.joined.seat.tokens["high"] > before["high"]
        assert await desk.bus.publish(an_order())


@virtual
async def test_a_token_of_its_own_that_was_overtaken_is_claimed_anew(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one")
    async with running(desk):
        joined = desk.linking.joined
        before = joined.seat
        hub.claim("normal", "street", before.tokens["normal"])  # a claim that was given up, and came late
        joined.fenced(Fenced("refused"))
        await passes(0.5)
        assert joined.seat.tokens["normal"] > before.tokens["normal"]
        assert await desk.bus.publish(an_order())


@virtual
async def test_who_had_nothing_to_export_uses_the_claim_that_was_made_meanwhile(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one")
    async with running(desk):
        joined = desk.linking.joined
        for number in range(3):
            await passes(1)
            await desk.linking.seats.claim_again()  # as where the other log was deleted
            claimed = dict(joined.seat.tokens)
            assert await desk.bus.publish(an_order(f"o-{number}"), priority=bool(number % 2))
            await passes(1)
            assert joined.seat.tokens == claimed, "nothing was refused"
        assert sum(len(group.entries) for log in claimed for group in hub.groups(log)) == 3


@virtual
async def test_a_round_trip_of_more_than_a_third_of_the_lease_is_quick_enough(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one", lease_s=3)
    async with running(desk):
        hub.delay_s = 0.6
        for _ in range(30):
            await passes(1)
            assert await desk.bus.publish(an_order(f"o-{_}"))


@virtual
async def test_a_process_that_is_out_says_nothing_in_the_name_of_its_desk(tmp_path):
    hub = MemoryHub()
    first, floor = street(hub, tmp_path / "one"), Desk(hub, "floor", tmp_path / "floor")
    releaser, heard = first.bus.releaser("officer"), []
    async with running(first, floor):
        await passes(1)
        other = MemoryTransport(hub, "other")
        await other.open()
        await other.claim(Seat(desk="street", holder="another"), hub.seats()[1])
        await passes(10)
        assert first.linking.joined.is_out
        floor.linking.others.on_beat(lambda desk, _: heard.append(desk))
        switch = KillSwitchEvent(reason="now")
        await floor.bus.publish(switch)
        await passes(1)
        assert switch.event_id in first.switched  # it hears, and halts
        await releaser.release(ids=switch.event_id, reason="of no account")
        await first.bus.publish(a_tick())
        await passes(1)
        assert floor.active == {switch.event_id}
        assert heard == []
        assert floor.linking.tick_receiver.desks == {}
        await other.close()


@virtual
async def test_an_outbox_of_a_call_that_ends_without_a_seat_is_not_accepted_and_is_made_again(tmp_path):
    hub = MemoryHub()
    desk, made, seen = street(hub, tmp_path / "one"), [], []

    async def slowly(event):
        await desk.bus.publish(an_order("derived"))
        made.append(event)
        await asyncio.sleep(20 if len(made) == 1 else 0)

    desk.bus.subscribe(EventType.FILL, slowly, name="slow", outbox=True)
    desk.bus.subscribe(EventType.ORDER, seen.append, name="gateway")
    async with running(desk):
        await passes(0.1)
        await desk.bus.publish(a_fill())
        hub.cut("street")
        await passes(25)
        assert (len(made), len(seen)) == (1, 0)
        hub.heal("street")
        await passes(5)
        assert (len(made), len(seen)) == (2, 1)
        assert desk.bus.dead_letters() == []


@virtual
async def test_health_names_the_seat_and_no_subscription(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one", health_check_config=HealthCheckConfig(stall_s=5))
    desk.bus.subscribe(EventType.MARKET_DATA, lambda _: None, name="ticks")
    async with running(desk):
        hub.cut("street")
        await passes(16)
        await desk.bus.publish(a_tick())
        await passes(60)
        findings = (await desk.bus.check_health()).findings
        assert {finding.check for finding in findings} == {"link"}
        assert findings[0].level.value == "unhealthy"
        assert "was not renewed for 15 s" in findings[0].detail
        assert findings[0].tried == ()
        hub.heal("street")
        await passes(3)
        assert "link" not in {finding.check for finding in (await desk.bus.check_health()).findings}


@virtual
async def test_what_a_worker_has_taken_is_not_begun_without_a_seat(tmp_path):
    hub = MemoryHub()
    desk, began = street(hub, tmp_path / "one"), []

    async def quick_at_first(event):
        began.append(now_s())
        if len(began) > 600:
            await asyncio.sleep(0.4)

    desk.bus.subscribe(EventType.ORDER, quick_at_first, name="gateway")
    async with running(desk):
        await passes(1)
        lapses_s = desk.linking.seats.tenure.lapses_ns / 1e9
        hub.cut("street")
        await passes(lapses_s - now_s() - 1)
        await desk.bus.publish_many([an_order(f"o-{number}") for number in range(1_000)])
        await passes(10)
        assert len(began) < 610
        assert max(began) < lapses_s
        hub.heal("street")
        await passes(3)
        assert max(began) > lapses_s


# -- lost for good ------------------------------------------------------------------------------------


async def take_over(hub):
    (seen,) = hub.seats()
    thief = MemoryTransport(hub, "street")
    await thief.open()
    await thief.claim(Seat(desk="street", holder="another", lease_s=3_600), seen)
    await thief.close()


@virtual
async def test_who_runs_a_bus_until_a_signal_is_told_that_its_desk_is_lost(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one")
    await desk.bus.start()
    assert desk.bus.admin.seat_lost is None
    running_on = asyncio.create_task(desk.bus.run_until_signal())
    await passes()
    await take_over(hub)
    with pytest.raises(SeatLost, match=r"another process holds desk 'street'"):
        await running_on
    assert not desk.bus.is_running
    assert isinstance(desk.bus.admin.seat_lost, SeatLost)


@virtual
async def test_a_bus_that_has_lost_its_desk_is_not_run_again_until_a_signal(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one")
    async with running(desk):
        await take_over(hub)
        await passes(30)
        with pytest.raises(SeatLost):
            await desk.bus.run_until_signal()


@virtual
async def test_a_stop_does_not_wait_for_what_a_desk_without_its_seat_may_not_handle(tmp_path):
    hub = MemoryHub()
    desk = street(hub, tmp_path / "one")
    handled = []
    desk.bus.subscribe(EventType.ORDER, handled.append, name="broker")
    await desk.bus.start()
    desk.bus.admin.pause("broker")
    await desk.bus.publish(an_order())
    await take_over(hub)
    await passes(30)
    desk.bus.admin.resume("broker")
    before_s = now_s()
    await desk.bus.stop(60)
    assert now_s() - before_s < 1
    assert not handled


@virtual
async def test_a_desk_whose_journal_another_process_has_open_can_be_stopped(tmp_path):
    hub = MemoryHub()
    first = street(hub, tmp_path / "one")
    async with running(first):
        second = street(hub, tmp_path / "one")
        with pytest.raises(JournalLocked):
            await second.bus.start()
        await second.bus.stop(1)
        assert await first.bus.publish(an_order())
