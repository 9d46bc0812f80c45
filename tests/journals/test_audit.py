"""Journals of desks held against each other: whatever is not as it was made is found, and nothing else."""

import random
from pathlib import Path

import pytest
from desks_kit import DeskJournal, close, event, state
from msgspec.structs import replace

from openoutcry.errors import ConfigError
from openoutcry.journals import JournalReader, SqliteJournal, audit
from openoutcry.journals.audit import Audit, Pair
from openoutcry.journals.desks import Desk, desk_in, journals_in, named
from openoutcry.ports import BuriedEvent, Changes, Header, Level


def audited(maker: DeskJournal, taker: DeskJournal) -> Pair:
    paths = close(maker, taker)
    with JournalReader(paths[0]) as made, JournalReader(paths[1]) as found:
        one, other = named([desk_in(made), desk_in(found)])
        return Audit((one, made), (other, found)).run()


def kinds(pair: Pair) -> list[tuple[str, str]]:
    return [(one.kind, one.event_id) for one in pair.problems]


@pytest.fixture
def floor(tmp_path: Path) -> DeskJournal:
    return DeskJournal(tmp_path, "floor")


@pytest.fixture
def street(tmp_path: Path) -> DeskJournal:
    return DeskJournal(tmp_path, "street")


def test_what_is_there_the_same_and_in_order_is_clean(floor, street):
    events = [event(f"e-{i}", lane=("normal", "high")[i % 2]) for i in range(50)]
    floor.make(*events)
    street.make(event("own"))
    street.take(floor, *events)
    pair = audited(floor, street)
    assert (pair.is_clean, pair.same, pair.waiting, pair.counts) == (True, 50, 0, {})


def test_what_was_grouped_otherwise_and_comes_between_ones_own_is_clean(floor, street):
    events = [event(f"e-{i}") for i in range(9)]
    floor.make(*events[:2]).make(event("got", "note")).make(*events[2:])
    for i in range(0, 9, 3):
        street.make(event(f"own-{i}"))
        street.take(floor, *events[i : i + 3])
    street.take(floor, event("got", "note"))
    pair = audited(floor, street)
    assert kinds(pair) == [("order", "got")]
    assert pair.same == 9


def test_a_lost_event_is_missing(floor, street):
    events = [event(f"e-{i}") for i in range(20)]
    floor.make(*events)
    street.take(floor, *events[:7], *events[8:])
    pair = audited(floor, street)
    assert kinds(pair) == [("missing", "e-7")]
    assert (pair.problems[0].made_at, pair.problems[0].found_at) == (8, 0)
    assert pair.same == 19


def test_market_data_that_is_only_recorded_is_not_missed_elsewhere(floor, street):
    order = event("e-0")
    floor.make(replace(event("t-0", "market_data"), level=Level.MEMORY)).make(order)
    street.take(floor, order)
    pair = audited(floor, street)
    assert (kinds(pair), pair.same) == ([], 1)


def test_a_changed_byte_is_different(floor, street):
    floor.make(event("e-0"), event("e-1", quantity=5))
    street.take(floor, event("e-0"), event("e-1", quantity=6))
    assert kinds(audited(floor, street)) == [("different", "e-1")]


def test_what_stands_beside_an_event_counts_but_for_the_desk(floor, street):
    beside = Header(correlation_id="c-1", votes=True)
    first, second = (replace(event(f"e-{i}"), header=beside) for i in range(2))
    floor.make(first, second)
    street.take(floor, first, replace(second, header=Header(correlation_id="c-2", votes=True)))
    assert kinds(audited(floor, street)) == [("different", "e-1")]


def test_two_that_were_exchanged_are_out_of_order(floor, street):
    events = [event(f"e-{i}") for i in range(10)]
    floor.make(*events)
    street.take(floor, *events[:4], events[5], events[4], *events[6:])
    pair = audited(floor, street)
    assert pair.counts == {"order": 1}
    assert {one.event_id for one in pair.problems} <= {"e-4", "e-5"}


def test_one_that_came_much_too_late_is_the_one_out_of_order(floor, street):
    events = [event(f"e-{i}") for i in range(30)]
    floor.make(*events)
    street.take(floor, *events[:3], *events[4:], events[3])
    assert kinds(audited(floor, street)) == [("order", "e-3")]


def test_lanes_have_an_order_each_and_kill_switches_none(floor, street):
    kill = [event(f"k-{i}", "kill_switch", "control") for i in range(3)]
    high, low = event("h", "fill", "high"), event("l")
    floor.make(low, kill[0], high, kill[1], kill[2])
    street.take(floor, kill[2], kill[0], high, kill[1], low)
    pair = audited(floor, street)
    assert (pair.is_clean, pair.same) == (True, 5)


def test_what_that_desk_never_made_is_a_stranger(floor, street):
    floor.make(event("e-0"))
    street.take(floor, event("e-0"), event("forged"))
    assert kinds(audited(floor, street)) == [("stranger", "forged")]


def test_a_kill_switch_that_was_handed_on_before_it_was_written_is_no_fault(floor, street):
    floor.make(event("e-0"))
    street.take(floor, event("e-0"), event("k-0", "kill_switch", lane="control"))
    pair = audited(floor, street)
    assert (pair.is_clean, pair.same, pair.ahead) == (True, 1, 1)


def test_what_a_desk_itself_imported_is_none_of_its_exports(floor, street, tmp_path):
    third = DeskJournal(tmp_path, "third")
    floor.make(event("e-0")).take(third, event("t-0"))
    street.take(floor, event("e-0"))
    close(third)
    assert audited(floor, street).is_clean


def test_what_was_there_before_under_its_id_is_no_fault_if_it_is_the_same(floor, street):
    floor.make(event("both"), event("other", quantity=1))
    street.make(event("both"), event("other", quantity=2)).take(floor)
    pair = audited(floor, street)
    assert pair.had == 1
    assert kinds(pair) == [("different", "other")]


def test_what_is_beyond_where_the_importer_stands_waits(floor, street):
    floor.make(*(event(f"e-{i}") for i in range(5)))
    street.take(floor, event("e-0"), event("e-1"), upto=2)
    pair = audited(floor, street)
    assert (pair.is_clean, pair.same, pair.waiting) == (True, 2, 3)


def test_what_was_imported_before_that_was_written_down_is_the_same(floor, street):
    floor.make(*(event(f"e-{i}") for i in range(5)))
    street.take(floor, event("e-0"), event("e-1"), event("e-2"), upto=1)
    pair = audited(floor, street)
    assert (pair.is_clean, pair.same, pair.waiting) == (True, 3, 2)


def test_an_importer_that_never_came_to_it_waits_for_everything(floor, street):
    floor.make(event("e-0"), event("e-1"))
    assert audited(floor, street).waiting == 2


@pytest.mark.parametrize(
    ("gives", "takes"),
    [
        ({"keep": ["note"]}, {}),
        ({"exports": ["order"]}, {}),
        ({}, {"imports": ["order"]}),
    ],
)
def test_types_that_are_kept_or_not_taken_are_not_missed(tmp_path, gives, takes):
    maker, taker = DeskJournal(tmp_path, "maker", **gives), DeskJournal(tmp_path, "taker", **takes)
    maker.make(event("e-0"), event("n", "note"), event("e-1"))
    taker.take(maker, event("e-0"), event("e-1"))
    pair = audited(maker, taker)
    assert (pair.is_clean, pair.same) == (True, 2)


def test_answers_to_rounds_and_kill_switches_travel_whatever_the_types_say(tmp_path):
    maker = DeskJournal(tmp_path, "maker", exports=[], keep=["signal"])
    taker = DeskJournal(tmp_path, "taker", imports=["order"])
    vote = replace(event("v", "signal"), header=Header(votes=True))
    kill = event("k", "kill_switch", "control")
    maker.make(vote, kill, event("s", "signal"), event("o"))
    taker.take(maker)
    assert kinds(audited(maker, taker)) == [("missing", "v"), ("missing", "k")]


def test_records_and_what_a_link_does_itself_do_not_travel(floor, street):
    own_halt = event("cut-off", "kill_switch", "control", source_agent="(link)")
    abstained = replace(event("a", "round_abstained"), header=Header(votes=True))
    floor.make(event("r", "round_opened"), own_halt, event("x", "round_abstained"), abstained)
    street.take(floor, abstained)
    pair = audited(floor, street)
    assert (pair.is_clean, pair.same) == (True, 1)


def test_what_the_importing_desk_refused_is_told_apart(floor, street):
    floor.make(event("e-0"), event("forged"))
    street.take(floor, event("e-0"))
    letter = BuriedEvent(
        subscription="(link)", lane="normal", position=1, payload=event("forged").payload, reason="forged"
    )
    street.journal.write([], Changes(buried=[letter]))
    assert kinds(audited(floor, street)) == [("refused", "forged")]


def test_imports_from_another_journal_of_that_desk_are_not_compared(floor, street):
    floor.make(event("e-0"))
    street.take(floor, event("older"), journal="another")
    pair = audited(floor, street)
    assert (pair.is_clean, pair.other_journal, pair.counts) == (False, "another", {})


@pytest.mark.parametrize("which", ["maker", "taker"])
def test_what_one_journal_keeps_no_longer_cannot_be_compared(tmp_path, which):
    maker, taker = DeskJournal(tmp_path, "maker"), DeskJournal(tmp_path, "taker")
    for i in range(6):
        maker.make(event(f"e-{i}"))
        taker.take(maker, event(f"e-{i}"))
    retiring = maker if which == "maker" else taker
    while retiring.journal.retire(keep_count=2, past_cursors=True):
        pass
    pair = audited(maker, taker)
    assert pair.is_clean
    assert pair.same + pair.retired == 6
    assert pair.retired == 4


def test_a_missing_event_is_found_behind_what_was_retired(tmp_path):
    maker, taker = DeskJournal(tmp_path, "maker"), DeskJournal(tmp_path, "taker")
    for i in range(9):
        maker.make(event(f"e-{i}"))
        if i != 7:
            taker.take(maker, event(f"e-{i}"))
    while taker.journal.retire(keep_count=4, past_cursors=True):
        pass
    assert kinds(audited(maker, taker)) == [("missing", "e-7")]


def test_what_is_lost_is_found_however_far_the_journals_have_drifted_apart(tmp_path, monkeypatch):
    """With a window of a few events, and hundreds that are missing, doubled with one's own, or shuffled."""
    monkeypatch.setattr(audit, "WINDOW", 8)
    monkeypatch.setattr("openoutcry.journals.scanning.PAGE", 16)
    for seed in range(12):
        draw = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        maker, taker = DeskJournal(folder, "maker"), DeskJournal(folder, "taker")
        events = [event(f"e-{i}", lane=draw.choice(["normal", "high"])) for i in range(300)]
        lost = {f"e-{i}" for i in draw.sample(range(300), 40)} | {f"e-{i}" for i in range(100, 140)}
        maker.make(*events)
        for one in events:
            taker.make(event(f"own-{one.event_id}"))
            if one.event_id not in lost:
                taker.take(maker, one)
        pair = audited(maker, taker)
        assert pair.counts == {"missing": len(lost)}
        assert {one.event_id for one in pair.problems} <= lost
        assert pair.same == 300 - len(lost)


def test_of_many_problems_a_hundred_are_shown_and_all_counted(floor, street):
    floor.make(*(event(f"e-{i}") for i in range(250)))
    street.take(floor)
    pair = audited(floor, street)
    assert pair.counts == {"missing": 250}
    assert len(pair.problems) == audit.PROBLEMS_MOST


# -- which desk a journal is of -------------------------------------------------------------------------


def desks(*paths: Path) -> list[Desk]:
    found = []
    for path in paths:
        with JournalReader(path) as reader:
            found.append(desk_in(reader))
    return named(found)


def test_a_journal_that_does_not_say_its_desk_has_the_name_that_others_give_it(tmp_path):
    maker, taker = DeskJournal(tmp_path, "file-a", says_so=False), DeskJournal(tmp_path, "taker")
    maker.name = "floor"
    taker.take(maker, event("e-0"))
    assert [one.name for one in desks(*close(maker, taker))] == ["floor", "taker"]


def test_other_rows_of_a_link_are_none_of_what_it_has_imported(tmp_path):
    floor = DeskJournal(tmp_path, "floor")
    for name in ("(link:released)", "(link:street:odd)", "(link:)", "(link:x", "(linked)", "normal)"):
        floor.journal.write([], Changes(snapshots=[state(name, {"run": 5, "other": [1]})]))
    (one,) = desks(*close(floor))
    assert (one.name, one.imported) == ("floor", {})


def test_a_journal_of_which_nobody_knows_is_called_as_its_file(tmp_path):
    assert [one.name for one in desks(*close(DeskJournal(tmp_path, "solo", says_so=False)))] == ["solo"]


def test_two_journals_of_one_desk_are_refused(tmp_path):
    (tmp_path / "old").mkdir()
    paths = close(DeskJournal(tmp_path, "floor"), DeskJournal(tmp_path / "old", "floor"))
    with pytest.raises(ConfigError, match="both journals of the desk 'floor'"):
        desks(*paths)


def test_a_folder_stands_for_the_journals_in_it(tmp_path):
    inner = tmp_path / "desks" / "a"
    inner.mkdir(parents=True)
    (path,) = close(DeskJournal(inner, "floor"))
    (inner / "other.db").write_text("no journal")
    (inner / "note.txt").write_text("")
    assert journals_in([tmp_path]) == [path.resolve()]
    assert journals_in([tmp_path, path]) == [path.resolve()]
    with pytest.raises(ConfigError, match="is not there"):
        journals_in([tmp_path / "none"])


def test_an_empty_journal_of_a_new_desk_is_one(tmp_path):
    path = tmp_path / "new.db"
    SqliteJournal(path).close()
    (one,) = desks(path)
    assert (one.own, one.imported, one.head) == (None, {}, 0)


# -- settings that were changed -----------------------------------------------------------------------


def an_era(**fields) -> dict:
    plain = {"exports": ["*"], "keep": [], "imports": ["*"], "ends": {}, "head": 0, "reached": {}}
    return {**plain, **fields}


def test_what_was_made_before_its_type_was_imported_is_not_missing(floor, tmp_path):
    era = an_era(imports=["order"], reached={"floor:normal": 3, "floor:high": 3})
    street = DeskJournal(tmp_path, "street", eras=[era])
    events = [event("o-1"), event("n-1", "note"), event("o-2"), event("n-2", "note"), event("o-3")]
    floor.make(*events)
    street.take(floor, events[0], *events[3:])
    pair = audited(floor, street)
    assert kinds(pair) == [("missing", "o-2")]
    assert (pair.same, pair.former) == (3, 1)


def test_what_was_made_before_its_type_was_exported_is_not_missing(street, tmp_path):
    era = an_era(exports=["order"], ends={"normal": 2, "high": 2}, head=4)
    floor = DeskJournal(tmp_path, "floor", eras=[era])
    events = [event(f"{kind[0]}-{i}", kind) for i in range(3) for kind in ("order", "note")]
    floor.make(*events)
    street.take(floor, events[0], *events[2:])  # the note from between: it may have come, or not
    pair = audited(floor, street)
    assert pair.is_clean, pair
    assert (pair.same, pair.former) == (5, 1)


def test_what_was_imported_before_its_type_was_taken_from_the_settings_is_no_stranger(floor, tmp_path):
    street = DeskJournal(tmp_path, "street", imports=["order"])
    events = [event("n-1", "note"), event("o-1"), event("n-2", "note")]
    floor.make(*events)
    street.take(floor, *events[:2])
    pair = audited(floor, street)
    assert (pair.is_clean, pair.same, pair.former) == (True, 2, 0)


def test_what_was_made_before_the_link_is_not_missing(street, tmp_path):
    floor = DeskJournal(tmp_path, "floor", says_so=False)
    runs = dict.fromkeys(("high", "normal"), f"{floor.origin}:0:2:0:{10**18}:{10**18}")
    own = {"firm": "alpha", "desk": "floor", "exports": ["*"], "keep": [], "imports": [], "runs": runs}
    floor.journal.write([], Changes(snapshots=[state("(link)", own)]))
    events = [event(f"e-{i}") for i in range(4)]
    floor.make(*events)
    street.take(floor, events[2])
    pair = audited(floor, street)
    assert kinds(pair) == [("missing", "e-3")]
    assert pair.former == 2
