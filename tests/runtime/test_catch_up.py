"""Pages of the journal: what stands between two positions, and where each event of it stands."""

import asyncio
from pathlib import Path

import pytest
from bus_helpers import an_order

from openoutcry import EventBus, PersistenceConfig, encode
from openoutcry.journals import SqliteJournal, log
from openoutcry.ports import Entry, Level, Stored
from openoutcry.runtime.durability import catch_up
from openoutcry.runtime.durability.catch_up import Page, Pages


def a_page(*positions: int) -> Page:
    return Page([Stored(at, encode(an_order(f"o-{at}")), "normal", Level.PROCESS, 0) for at in positions])


@pytest.mark.parametrize(
    ("after", "upto", "positions"),
    [(0, 9, [1, 2, 3, 4]), (1, 3, [2, 3]), (4, 9, []), (0, 0, [])],
)
def test_part_of_a_page_comes_with_where_its_events_stand(after: int, upto: int, positions: list[int]):
    events, found = a_page(1, 2, 3, 4).part(after, upto)
    assert [event.order_id for event in events] == [f"o-{at}" for at in positions]
    assert list(found) == positions


def test_a_page_without_gaps_tells_its_positions_as_a_range():
    assert a_page(5, 6, 7).part(0, 9)[1] == range(5, 8)


def test_entries_that_were_written_one_by_one_are_weighed_once_each(monkeypatch: pytest.MonkeyPatch):
    weighed: list[Stored] = []

    def weigh(entries: list[Stored]) -> int:
        weighed.extend(entries)
        return len(entries)

    monkeypatch.setattr(log, "bytes_of", weigh)
    entries = a_page(*range(1, 101)).entries
    batches = iter([[entry] for entry in entries])
    assert log.take_forwards(batches, 10, 90, None, bytes_max=1_000) == entries[10:]
    assert weighed == entries[10:99]


def test_positions_that_a_recovery_has_left_empty_do_not_shift_those_behind_them():
    events, found = a_page(1, 2, 5, 6).part(0, 9)
    assert len(events) == len(found)
    assert list(found) == [1, 2, 5, 6]


def test_large_events_are_read_a_part_of_a_page_at_a_time_and_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "READ_BYTES", 10_000)
    with SqliteJournal(tmp_path / "firm.db") as journal:
        for at in range(1, 301):
            event = an_order(f"o-{at}", source_agent="x" * (1_000 if at > 100 else 1))
            journal.write([Entry(event.event_id, encode(event))])
        pages, at, found, sizes = catch_up.Pages(journal), 0, list[str](), list[int]()
        while at < 300:
            page, covered = pages.after(at, 300, has_records=True)
            assert covered > at
            events, _ = page.part(at, covered)
            found += [event.order_id for event in events]
            sizes.append(sum(len(entry.payload) for entry in page.entries))
            at = covered
    assert found == [f"o-{at}" for at in range(1, 301)]
    assert max(sizes) <= 12_000


def test_who_reads_on_from_large_events_gives_the_loop_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "READ_BYTES", 10_000)
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        for at in range(1, 101):
            event = an_order(f"o-{at}", source_agent="x" * 12_000)
            journal.write([Entry(event.event_id, encode(event))])
    read: list[int] = []
    whole = catch_up.Pages.after

    def counted(self: Pages, position: int, upto: int, *, has_records: bool) -> tuple[Page, int]:
        read[-1] += 1
        return whole(self, position, upto, has_records=has_records)

    async def run() -> None:
        monkeypatch.setattr(catch_up.Pages, "after", counted)
        bus = EventBus(persistence_config=PersistenceConfig(path=path, socket=False))
        bus.subscribe("signal", lambda _: None, name="behind")
        read.append(0)
        async with bus:
            while bus._bus.router.named("behind").mailbox.behind:
                read.append(0)
                await asyncio.sleep(0)

    asyncio.run(run())
    assert sum(read) >= 100
    assert max(read) <= 2
