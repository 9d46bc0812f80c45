"""What every journal must do, whatever it is made of."""

import json

import pytest
from journal_kit import NOON_NS, Factory, entries, entry, payloads

from openoutcry.core.halts import Halt
from openoutcry.errors import InvalidEvent, JournalError
from openoutcry.events import decode, encode
from openoutcry.ports import (
    BuriedEvent,
    Changes,
    CursorState,
    Duplicate,
    Entry,
    FileJournal,
    Filter,
    Header,
    Journal,
    Level,
    Suspect,
)
from openoutcry.trading import MarketDataEvent


def cursor(name: str = "risk", lane: str = "normal", floor: int = 0, **more: object) -> CursorState:
    return CursorState(subscription=name, lane=lane, floor=floor, **more)  # type: ignore[arg-type]


def letter(payload: bytes = b"{}", **more: object) -> BuriedEvent:
    values = {"subscription": "risk", "lane": "normal", "position": 1, "reason": "failed", **more}
    return BuriedEvent(payload=payload, **values)  # type: ignore[arg-type]


# Writing and reading


def test_positions_are_dense_from_one_over_batches_of_any_size(journal: Journal) -> None:
    positions = [p for size in (1, 3, 1, 64) for p in journal.write(entries(size)).positions]
    assert positions == list(range(1, 70))
    assert [e.position for e in journal.read(0, 100)] == positions
    assert (journal.first, journal.head) == (1, 69)


def test_an_entry_comes_back_as_it_was_written(journal: Journal) -> None:
    header = Header(event_id="own", event_type="theirs", source_agent="bob", correlation_id="c")
    written = [
        entry(lane="control", level=Level.DISK, wall_ns=NOON_NS + 5),
        entry("own", lane="high", wall_ns=NOON_NS - 7, header=header),
        entry(level=Level.PROCESS),
    ]
    beside = [entry(level=Level.MEMORY, lane="high"), entry(level=Level.MEMORY, wall_ns=NOON_NS + 1)]
    journal.write(written)
    journal.write(beside)
    for before, after in zip(written + beside, journal.read(0, 10), strict=True):
        assert (after.payload, after.lane, after.level, after.wall_ns, after.header) == (
            before.payload,
            before.lane,
            before.level,
            before.wall_ns,
            before.header,
        )


def test_what_stands_beside_has_a_position_and_its_id_stays_unknown(journal: Journal) -> None:
    tick = entry("tick", level=Level.MEMORY)
    assert list(journal.write([tick, entry(level=Level.MEMORY)]).positions) == [1, 2]
    again = journal.write([tick])
    assert (list(again.positions), again.duplicates, again.wants_sync) == ([3], (), False)
    assert journal.find("tick") is None
    raised = journal.write([entry("tick", level=Level.DISK), entry("other")])
    assert (list(raised.positions), raised.duplicates, raised.wants_sync) == ([4, 5], (), True)
    assert (journal.find("tick"), journal.find("other")) == (4, 5)
    (found,) = journal.write([entry("tick")]).duplicates
    assert found.position == 4
    assert [stored.is_beside for stored in journal.read(0, 10)] == [True, True, True, False, False]
    assert [stored.position for stored in journal.read_urgent(0, 10)] == []


def test_what_stands_beside_is_written_apart_from_the_rest(journal: Journal) -> None:
    for both in ([Level.MEMORY, Level.DISK], [Level.PROCESS, Level.MEMORY]):
        with pytest.raises(InvalidEvent, match="in calls of their own"):
            journal.write([entry(level=level) for level in both])
    assert journal.head == 0


def test_an_event_of_a_known_class_makes_the_round_trip(journal: Journal) -> None:
    tick = MarketDataEvent(symbol="AAPL", price=187.25, source_agent="feed")
    journal.write([Entry(tick.event_id, encode(tick))])
    (stored,) = journal.read(0, 1)
    assert decode(stored.payload) == tick
    head = stored.head()
    assert (head.event_id, head.event_type, head.symbol, head.source_agent) == (
        tick.event_id,
        "market_data",
        "AAPL",
        "feed",
    )


@pytest.mark.parametrize(
    "payload",
    [
        b'{"event_class":"Gone","event_id":"x","event_type":"gone","n":1.0e+5,"big":123456789012345678901234567890}',
        b'{ "event_id" : "x" ,\n "event_type":"odd\\u0041", "t":"]],[[0,0,0,{" , "u":"\xc3\xa9\xf0\x9f\x92\xb9"}',
    ],
)
def test_unknown_events_are_kept_byte_for_byte(factory: Factory, payload: bytes) -> None:
    journal = factory.open()
    journal.write([entry(), Entry("x", payload), entry()])
    assert factory.reopen(journal).read(1, 1)[0].payload == payload


def test_the_envelope_goes_before_what_the_event_says(journal: Journal) -> None:
    own = entry("inner", source_agent="inside", symbol="ES")
    journal.write(
        [Entry("outer", own.payload, header=Header(event_id="outer", event_type="t", source_agent="o"))]
    )
    head = journal.read(0, 1)[0].head()
    assert (head.event_id, head.event_type, head.source_agent, head.symbol) == ("outer", "t", "o", "ES")
    assert journal.find("outer") == 1
    assert journal.find("inner") is None


def test_reading_goes_on_where_it_ended(journal: Journal) -> None:
    written = entries(10) + entries(5)
    journal.write(written[:10])
    journal.write(written[10:])
    read, after = [], 0
    while some := journal.read(after, 4):
        read += some
        after = some[-1].position
    assert payloads(read) == payloads(written)
    assert journal.read(15, 5) == []
    assert journal.read(99, 5) == []
    assert journal.read(0, 0) == []


def test_urgent_entries_are_found_whatever_stands_between_them(factory: Factory) -> None:
    journal = factory.open()
    assert journal.read_urgent(0, 10) == []
    journal.write(entries(3))
    mixed = [entry(), entry(lane="high", level=Level.DISK, symbol="ES"), entry(), entry(lane="control")]
    journal.write(mixed)
    journal.write(entries(50))
    journal.write([entry("own", lane="high", header=Header(event_id="own", event_type="theirs"))])
    for restarted in (False, True):
        one = factory.reopen(journal) if restarted else journal
        urgent = one.read_urgent(0, 10)
        assert [e.position for e in urgent] == [5, 7, 58]
        assert urgent == [e for e in one.read(0, 100) if e.lane != "normal"]
        assert [e.position for e in one.read_urgent(0, 2)] == [5, 7]
        assert [e.position for e in one.read_urgent(5, 1)] == [7]
        assert [e.position for e in one.read_urgent(6, 9)] == [7, 58]
        assert one.read_urgent(58, 10) == one.read_urgent(99, 10) == one.read_urgent(0, 0) == []


def test_urgent_entries_that_are_retired_are_gone(journal: Journal) -> None:
    for lane in ("high", "normal", "control", "normal"):
        journal.write([entry(lane=lane)])
    assert journal.retire(keep_count=2) == 2
    assert [e.position for e in journal.read_urgent(0, 10)] == [3]


def test_the_tail_is_the_newest_oldest_first(journal: Journal) -> None:
    for size in (3, 2, 4):
        journal.write(entries(size))
    assert [e.position for e in journal.tail(5)] == [5, 6, 7, 8, 9]
    assert [e.position for e in journal.tail(100)] == list(range(1, 10))
    assert journal.tail(0) == []


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(types=frozenset({"fill", "order"})), [2, 3]),
        (Filter(agent="cio"), [1, 3]),
        (Filter(symbol="ES"), [1, 2]),
        (Filter(correlation_id="c1"), [2]),
        (Filter(since_ns=NOON_NS + 2, until_ns=NOON_NS + 4), [2, 3]),
        (Filter(agent="cio", symbol="ES"), [1]),
        (Filter(types=frozenset()), []),
        (Filter(), [1, 2, 3, 4]),
    ],
)
def test_reading_can_be_filtered(journal: Journal, where: Filter, expected: list[int]) -> None:
    journal.write([entry(wall_ns=NOON_NS + 1, source_agent="cio", symbol="ES")])
    journal.write(
        [
            entry(wall_ns=NOON_NS + 2, event_type="fill", symbol="ES", correlation_id="c1"),
            entry(wall_ns=NOON_NS + 3, event_type="order", source_agent="cio", symbol="NQ"),
        ]
    )
    journal.write([entry(wall_ns=NOON_NS + 4)])
    assert [e.position for e in journal.read(0, 10, where)] == expected
    assert [e.position for e in journal.tail(10, where)] == expected
    assert [e.position for e in journal.read(0, 1, where)] == expected[:1]
    assert [e.position for e in journal.tail(1, where)] == expected[-1:]


def test_an_unknown_lane_is_refused_and_nothing_is_written(journal: Journal) -> None:
    with pytest.raises(InvalidEvent, match="one of control, high, normal"):
        journal.write([entry(), entry(lane="fast")])
    assert journal.head == 0
    assert journal.write([entry()]).positions[0] == 1


def test_a_batch_of_nothing_changes_nothing(journal: Journal) -> None:
    assert list(journal.write([]).positions) == []
    assert journal.head == 0


# Durability


def test_only_a_batch_with_a_disk_entry_wants_a_sync(journal: Journal) -> None:
    assert not journal.write(entries(3)).wants_sync
    assert journal.write([entry(), entry(level=Level.DISK)]).wants_sync
    assert journal.synced == 0
    assert journal.sync() == 5
    assert journal.synced == 5


def test_a_sync_covers_what_was_written_before_it_began_and_no_more(journal: Journal) -> None:
    journal.write(entries(2))
    step = journal.begin_sync()
    journal.write(entries(2))
    step.perform()
    assert journal.end_sync(step) == 2
    assert journal.sync() == 4


def test_a_duplicate_that_wants_the_disk_wants_a_sync_until_it_is_there(journal: Journal) -> None:
    one = entry(level=Level.DISK)
    journal.write([one])
    assert journal.write([one]).wants_sync
    journal.sync()
    assert not journal.write([one]).wants_sync


def test_everything_is_there_after_a_restart(factory: Factory) -> None:
    journal = factory.open()
    written = entries(7)
    journal.write(written)
    journal.write((), Changes(cursors=[cursor(floor=3)], buried=[letter()]))
    again = factory.reopen(journal)
    assert payloads(again.read(0, 10)) == payloads(written)
    assert again.cursors() == [cursor(floor=3)]
    assert len(again.buried()) == 1
    assert (again.head, again.synced) == (7, 7)
    assert again.write([entry()]).positions[0] == 8


def test_a_closed_journal_takes_nothing_and_closing_again_is_harmless(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.write([entry()])
    with pytest.raises(JournalError, match="closed"):
        journal.sync()


# Duplicates


def test_an_id_that_is_there_is_not_written_again(journal: Journal) -> None:
    first, second = entries(2)
    journal.write([first])
    written = journal.write([second, first])
    assert list(written.positions) == [2, 1]
    assert written.duplicates == (Duplicate(1, 1, same=True),)
    assert journal.head == 2


def test_an_id_twice_in_one_call_is_written_once(journal: Journal) -> None:
    one, other = entries(2)
    written = journal.write([one, one, other, one])
    assert list(written.positions) == [1, 1, 2, 1]
    assert [d.index for d in written.duplicates] == [1, 3]
    assert payloads(journal.read(0, 9)) == payloads([one, other])


def test_the_same_id_with_other_content_is_flagged(journal: Journal) -> None:
    journal.write([entry("a", price=1)])
    assert journal.write([entry("a", price=2)]).duplicates == (Duplicate(0, 1, same=False),)
    assert journal.write([entry("b"), entry("b", x=1)]).duplicates == (Duplicate(1, 2, same=False),)


def test_the_same_event_made_again_later_is_the_same(journal: Journal) -> None:
    journal.write([entry("a", wall_ns=NOON_NS, price=1)])
    assert journal.write([entry("a", wall_ns=NOON_NS + 9, price=1)]).duplicates == (
        Duplicate(0, 1, same=True),
    )


def test_ids_are_remembered_over_a_restart(factory: Factory) -> None:
    journal = factory.open()
    written = entries(300)
    for start in range(0, 300, 7):
        journal.write(written[start : start + 7])
    again = factory.reopen(journal)
    assert again.find(written[123].event_id) == 124
    assert again.find("never") is None
    result = again.write([written[0], entry(), written[299]])
    assert list(result.positions) == [1, 301, 300]


def test_changes_are_saved_even_if_every_entry_is_a_duplicate(journal: Journal) -> None:
    one = entry()
    journal.write([one])
    journal.write([one], Changes(cursors=[cursor(floor=1)]))
    assert journal.cursors() == [cursor(floor=1)]
    assert journal.head == 1


# Cursors, dead letters, suspects


def test_a_cursor_is_saved_in_place_of_the_one_before(factory: Factory) -> None:
    journal = factory.open()
    journal.write(
        entries(9), Changes(cursors=[cursor(floor=1), cursor(lane="high"), cursor("audit", floor=9)])
    )
    newer = cursor(floor=4, settled=((6, 7), (9, 9)), takes=("order", "fill"))
    journal.write((), Changes(cursors=[newer]))
    assert factory.reopen(journal).cursors() == [cursor("audit", floor=9), cursor(lane="high"), newer]


def test_a_cursor_can_be_dropped(journal: Journal) -> None:
    journal.write((), Changes(cursors=[cursor(), cursor("gone")]))
    journal.write((), Changes(dropped_cursors=[("gone", "normal"), ("never", "high")]))
    assert journal.cursors() == [cursor()]


def test_dead_letters_keep_the_event_and_the_reason(factory: Factory) -> None:
    journal = factory.open()
    one = entry(price=3, text="\u00e9\n")
    journal.write([one])
    full = letter(
        one.payload, error="ValueError: \u20ac", traceback="Traceback\n ...", attempts=3, wall_ns=NOON_NS
    )
    journal.write((), Changes(buried=[full, letter(subscription="audit")]))
    again = factory.reopen(journal)
    (found,) = again.buried("risk")
    assert (found.payload, found.error, found.traceback, found.attempts, found.wall_ns) == (
        one.payload,
        full.error,
        full.traceback,
        3,
        NOON_NS,
    )
    assert [b.subscription for b in again.buried()] == ["risk", "audit"]
    again.write((), Changes(removed_letters=[found.letter_id]))
    assert again.buried("risk") == []


def test_dead_letters_are_read_by_the_page(factory: Factory) -> None:
    journal = factory.open()
    assert journal.last_letter_id() == 0
    names = ["risk", "audit"] * 5
    journal.write((), Changes(buried=[letter(subscription=name) for name in names]))
    whole = journal.buried()
    assert [b.letter_id for b in journal.buried(limit=3)] == [1, 2, 3]
    assert [b.letter_id for b in journal.buried(after=8)] == [9, 10]
    assert [b.letter_id for b in journal.buried("audit", after=2, limit=2)] == [4, 6]
    assert journal.buried(after=10) == []
    found: list[BuriedEvent] = []
    while page := journal.buried(after=found[-1].letter_id if found else 0, limit=4):
        found += page
    assert found == whole
    journal.write((), Changes(removed_letters=[b.letter_id for b in whole]))
    again = factory.reopen(journal)
    assert (again.buried(), again.last_letter_id()) == ([], 10)


def test_ids_of_dead_letters_are_never_given_again(journal: Journal) -> None:
    journal.write((), Changes(buried=[letter()]))
    (first,) = journal.buried()
    journal.write((), Changes(removed_letters=[first.letter_id], buried=[letter()]))
    (second,) = journal.buried()
    assert second.letter_id > first.letter_id


def test_what_was_in_flight_is_suspect_after_a_restart_and_crashes_are_counted(factory: Factory) -> None:
    journal = factory.open()
    journal.write(entries(20))
    for crash in (1, 2):
        cell = journal.marks.claim("risk\u00e9", "high")
        idle = journal.marks.claim("audit", "normal")
        journal.marks.cells[cell] = 17
        journal.marks.cells[idle] = 4
        journal.marks.cells[idle] = 0
        journal = factory.reopen(journal)
        assert journal.suspects() == [Suspect("risk\u00e9", "high", 17, crash)]
    journal.write((), Changes(cleared=[("risk\u00e9", "high", 17)]))
    journal = factory.reopen(journal)
    assert journal.suspects() == []


def test_a_damaged_mark_that_no_position_can_have_accuses_nobody(factory: Factory) -> None:
    journal = factory.open()
    journal.write(entries(5))
    damaged = () if factory.kind == "memory" else (6, 2**63, 2**64 - 1)
    for position in (*damaged, 5):
        journal.marks.cells[journal.marks.claim("risk", "high")] = position
    assert factory.reopen(journal).suspects() == [Suspect("risk", "high", 5, 1)]


def test_a_released_cell_marks_nothing_and_is_used_again(factory: Factory) -> None:
    journal = factory.open()
    journal.write(entries(6))
    cell = journal.marks.claim("long name of a subscription", "normal")
    journal.marks.cells[cell] = 5
    journal.marks.release(cell)
    assert journal.marks.claim("b", "high") == cell
    journal.marks.cells[cell] = 6
    assert factory.reopen(journal).suspects() == [Suspect("b", "high", 6, 1)]


# Retention


def test_retention_by_count_takes_whole_batches(factory: Factory) -> None:
    journal = factory.open()
    written = entries(10)
    for start in (0, 4, 8):
        journal.write(written[start : start + 4])
    assert journal.retire(keep_count=5) == 4
    assert journal.retire(keep_count=5) == 0
    journal = factory.reopen(journal)
    assert (journal.first, journal.head) == (5, 10)
    assert payloads(journal.read(0, 99)) == payloads(written[4:])
    assert journal.find(written[0].event_id) is None
    assert journal.find(written[5].event_id) == 6


def test_retention_by_age_keeps_a_batch_with_something_young(journal: Journal) -> None:
    journal.write([entry(wall_ns=NOON_NS)])
    journal.write([entry(wall_ns=NOON_NS), entry(wall_ns=NOON_NS + 100)])
    assert journal.retire(older_than_ns=NOON_NS + 50) == 1
    assert journal.retire(older_than_ns=NOON_NS + 50) == 0
    assert journal.first == 2


def test_retention_by_size_ends_when_it_is_small_enough(journal: Journal) -> None:
    for _ in range(40):
        journal.write(entries(10, pad="x" * 1000))
    while journal.retire(keep_bytes=200_000):
        pass
    left = journal.head + 1 - journal.first
    assert 50 <= left <= 200


def test_retention_never_passes_the_slowest_cursor_unless_told_so(journal: Journal) -> None:
    for _ in range(4):
        journal.write(entries(2))
    journal.write((), Changes(cursors=[cursor(floor=8), cursor("slow", floor=5)]))
    assert journal.retire(keep_count=0) == 4
    assert journal.retire(keep_count=0) == 0
    assert journal.first == 5
    assert journal.retire(keep_count=0, past_cursors=True) == 4
    assert (journal.first, journal.head) == (9, 8)


def test_a_journal_that_was_emptied_goes_on_counting(factory: Factory) -> None:
    journal = factory.open()
    one = entry()
    journal.write([one])
    journal.retire(keep_count=0)
    journal = factory.reopen(journal)
    assert (journal.first, journal.head) == (2, 1)
    assert journal.read(0, 9) == journal.tail(9) == []
    assert list(journal.write([one]).positions) == [2]


def test_idle_work_comes_to_an_end(factory: Factory) -> None:
    journal = factory.open()
    for _ in range(20):
        journal.write(entries(50))
    journal = factory.reopen(journal)
    assert isinstance(journal, FileJournal) is (factory.kind != "memory"), "in memory nothing is deferred"
    if isinstance(journal, FileJournal):
        assert sum(1 for _ in iter(journal.idle, False)) < 1000
    assert json.loads(journal.tail(1)[0].payload)["event_type"] == "note"


# Active kill switches


def test_halts_are_saved_with_the_entries_of_the_commit_and_replaced_and_released(journal: Journal) -> None:
    firm = Halt(scope="firm", event_id="k-1", by="risk", reason="drawdown \u20ac", since_ns=NOON_NS)
    others = Halt(scope="ES", event_id="", by="desk", since_ns=NOON_NS, count=7)
    journal.write([entry("k-1", lane="control")], Changes(halts=[firm, others]))
    assert journal.halts() == [others, firm]
    more = Halt(scope="ES", event_id="", by="desk", since_ns=NOON_NS, count=8)
    journal.write((), Changes(halts=[more], released=[("firm", "k-1"), ("ES", "unknown")]))
    assert journal.halts() == [more]


def test_a_halt_that_is_released_and_begun_in_one_commit_is_active(journal: Journal) -> None:
    halt = Halt(scope="ES", event_id="k-1")
    journal.write((), Changes(halts=[halt], released=[("ES", "k-1")]))
    assert journal.halts() == [halt]


def test_retention_does_not_touch_halts(journal: Journal) -> None:
    halt = Halt(scope="firm", event_id="k-1")
    journal.write([entry("k-1", lane="control")], Changes(halts=[halt]))
    journal.write(entries(3))
    while journal.retire(keep_count=1):
        pass
    assert journal.first > 1
    assert journal.halts() == [halt]


def test_text_that_no_database_takes_does_not_keep_a_halt_out(journal: Journal) -> None:
    journal.write((), Changes(halts=[Halt(scope="firm", event_id="k-1", reason="half \ud800")]))
    (found,) = journal.halts()
    assert found.event_id == "k-1"
    assert "half" in found.reason


@pytest.mark.parametrize(
    "place", [("firm", "half \ud800"), ("half \ud800", "k-1"), ("\ud83d\ude00", "\ud800")]
)
def test_a_halt_under_a_name_that_no_database_takes_is_released_under_it(
    journal: Journal, place: tuple[str, str]
) -> None:
    other = Halt(scope="ES", event_id="k-2")
    journal.write((), Changes(halts=[Halt(scope=place[0], event_id=place[1]), other]))
    assert len(journal.halts()) == 2
    journal.write((), Changes(released=[place]))
    assert journal.halts() == [other]
