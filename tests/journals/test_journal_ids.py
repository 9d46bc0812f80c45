"""The index of ids, driven through every stage of an id's life."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.journals import ids
from openoutcry.journals.ids import IdIndex


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "RECENT", 10)
    monkeypatch.setattr(ids, "SPAN", 8)


def places(index: IdIndex, event_id: str) -> list[int]:
    """Where the index sends one who looks for an id: every position of every answer."""
    return [p for first, last in index.places(event_id) for p in range(first, last + 1)]


def filled(count: int) -> IdIndex:
    index = IdIndex()
    for first in range(1, count, 5):
        some = [f"id-{n}" for n in range(first, first + 5)]
        assert index.are_new(some)
        index.add(some, first)
    return index


def test_an_id_is_found_where_it_stands_however_old_it_is() -> None:
    index = filled(500)
    assert all(places(index, f"id-{n}") == [n] for n in range(1, 501))
    assert places(index, "id-501") == []


def test_old_and_new_ids_are_told_apart() -> None:
    index = filled(500)
    assert not index.are_new(["new", "id-7"])
    assert not index.are_new(["id-499"])
    assert index.are_new(["new", "newer"])


def test_ids_made_beforehand_by_many_who_take_turns_are_told_apart() -> None:
    index = IdIndex()
    old = hexes(1_000, 1_020)
    index.add_older(old, 1)
    parts = [hexes(number * 60, number * 60 + 60) for number in range(5)]
    batches = [list(turn) for turn in zip(*parts, strict=True)]
    for number, some in enumerate(batches):
        assert index.are_new(some)
        index.add(some, 21 + number * 5)
        assert not index.are_new([*batches[number // 2][2:4], *hexes(2_000, 2_002)])
        assert not index.are_new([*hexes(2_000, 2_002), old[3]])
    assert not any(index.are_new([event_id]) for some in batches for event_id in some)


def test_asking_again_after_the_ids_were_noted_gives_the_new_answer() -> None:
    index = IdIndex()
    for some in (["a", "b"], hexes(1, 3)):
        assert index.are_new(some)
        index.add(some, 1)
        assert not index.are_new(some)


def test_forgotten_ids_are_new_again_and_their_memory_comes_back() -> None:
    index = filled(500)
    index.forget(450)
    assert places(index, "id-450") == []
    assert places(index, "id-451") == [451]
    settle(index)
    assert index.are_new(["id-3"])
    assert places(index, "id-455") == [455]
    assert sum(map(len, index._buckets)) <= 50 * 11


def test_ids_from_before_the_opening_are_found_too() -> None:
    index = IdIndex()
    index.add(["new"], 100)
    for first in range(90, 0, -10):
        index.add_older([f"id-{n}" for n in range(first, first + 10)], first)
    assert places(index, "id-99") == [99]
    assert places(index, "id-10") == [10]
    assert places(index, "new") == [100]


STEM = "0123456789abcdef-"
OTHER = "fedcba9876543210-"


def hexes(first: int, last: int, stem: str = STEM) -> list[str]:
    return [f"{stem}{n:x}" for n in range(first, last)]


def settle(index: IdIndex) -> None:
    while index.move(50):
        pass
    while index.sweep():
        pass


def counted(upto: int) -> IdIndex:
    """An index in which ids went on counting, 3 at a time, until they were no longer recent."""
    index = IdIndex()
    for first in range(1, upto, 3):
        some = hexes(first, first + 3)
        assert index.are_new(some)
        index.add(some, first)
    settle(index)
    return index


def test_ids_that_go_on_counting_are_new_without_asking_anything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = counted(300)
    monkeypatch.setattr(IdIndex, "_generations", None)
    assert index.are_new(hexes(0x12D, 0x1200))
    assert index.are_new(hexes(0, 5, OTHER))
    assert index.are_new([STEM + "fffff"])


def test_ids_that_go_on_counting_take_a_stretch_for_many_and_no_bucket() -> None:
    index = counted(300)
    assert index._buckets == []
    assert len(index._counting.stems[STEM].stretches) <= 300 // 6
    assert all(n in places(index, f"{STEM}{n:x}") for n in range(1, 301))
    assert all(len(places(index, f"{STEM}{n:x}")) < 10 for n in range(1, 301))


@pytest.mark.parametrize("number", [1, 9, 0xF, 0x10, 0xFF, 0x100, 0x12B])
def test_an_old_id_of_a_counting_stem_is_found_among_new_ones(number: int) -> None:
    index = counted(300)
    assert not index.are_new([*hexes(0x2000, 0x2005), f"{STEM}{number:x}"])
    assert not index.are_new([f"{STEM}{number:x}", *hexes(0, 5, OTHER)])
    assert not index.are_new([f"{STEM}{number:x}"])


def test_an_id_that_comes_late_is_new_and_found_afterwards() -> None:
    index = IdIndex()
    for first, some in ((1, hexes(1, 9)), (9, [f"{STEM}20"]), (10, [*hexes(10, 14), f"{STEM}21"])):
        assert index.are_new(some)
        index.add(some, first)
    assert not index.are_new([f"{STEM}b"])
    assert not index.are_new([f"{STEM}21"])
    assert index.are_new([f"{STEM}9"])
    index.add([f"{STEM}9"], 15)
    assert places(index, f"{STEM}9") == [15]


def test_an_id_that_does_not_count_is_told_apart_without_the_others_in_a_dict() -> None:
    index = IdIndex()
    counting = [f"{7:016x}-{number:x}" for number in range(9)]
    assert index.are_new(counting)
    index.add(counting, 1)
    for number in range(40):
        some = [f"round:{number}", f"{7:016x}-{100 + number:x}"]
        assert index.are_new(some)
        index.add(some, 10 + 2 * number)
    assert not index._now._known
    assert not any(index.are_new([f"round:{number}", "round:new"]) for number in range(40))
    assert all(places(index, f"round:{number}") == [10 + 2 * number] for number in range(40))


def test_derived_ids_among_counting_ones_are_told_apart() -> None:
    index = IdIndex()
    for first in range(1, 400, 4):
        some = [f"{first * 7919:026x}-0", f"{STEM}{first:x}", f"{first * 104729:026x}-0", f"{OTHER}{first:x}"]
        assert index.are_new(some)
        index.add(some, first)
    settle(index)
    assert sum(map(len, index._buckets)) <= 200 * 11
    for first in range(1, 400, 4):
        for n, known in enumerate((f"{first * 7919:026x}-0", f"{STEM}{first:x}")):
            assert first + n in places(index, known)
            assert not index.are_new([known, f"{STEM}ffff"])


def test_stems_beyond_the_limit_are_told_apart_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "STEMS", 3)
    index = IdIndex()
    for n in range(1, 60):
        some = [f"{n % 7:016x}-{n:x}"]
        assert index.are_new(some)
        index.add(some, n)
    settle(index)
    assert all(n in places(index, f"{n % 7:016x}-{n:x}") for n in range(1, 60))
    assert not any(index.are_new([f"{n % 7:016x}-{n:x}"]) for n in range(1, 60))


def test_older_batches_whose_ids_overlap_are_found_one_by_one() -> None:
    index = IdIndex()
    index.add_older([f"{STEM}20", f"{STEM}40"], 20)
    index.add_older([f"{STEM}30", f"{STEM}50"], 10)
    index.add_older([f"{STEM}10"], 5)
    assert places(index, f"{STEM}30") == [10] or {10} <= set(places(index, f"{STEM}30"))
    assert 11 in places(index, f"{STEM}50")
    assert 21 in places(index, f"{STEM}40")
    assert not index.are_new([f"{STEM}50"])
    assert index.are_new([f"{STEM}51"])


def test_a_forgotten_stretch_is_gone_and_its_stem_still_counts_on() -> None:
    index = counted(300)
    index.forget(200)
    settle(index)
    assert places(index, f"{STEM}{7:x}") == []
    assert 250 in places(index, f"{STEM}{250:x}")
    assert index._counting.stems[STEM].stretches[0][3] > 200
    assert index.are_new([f"{STEM}fff"])


ids_of_all_kinds = st.one_of(
    st.integers(0, 300).map(lambda n: f"{STEM}{n:x}"),
    st.integers(0, 30).map(lambda n: f"{OTHER}{n:x}"),
    st.integers(0, 60).map(lambda n: f"{n:026x}-0"),
    st.integers(0, 20).map(str),
)


@given(
    older=st.lists(st.lists(ids_of_all_kinds, min_size=1, max_size=6, unique=True), max_size=8),
    newer=st.lists(st.lists(ids_of_all_kinds, min_size=1, max_size=6, unique=True), max_size=20),
    seed=st.integers(0, 1000),
)
def test_no_id_that_was_noted_is_ever_taken_for_new(
    older: list[list[str]], newer: list[list[str]], seed: int
) -> None:
    chance = random.Random(seed)
    index, model = IdIndex(), {}
    position = 100
    for some in older:
        batch = [i for i in some if i not in model]
        if batch:
            position -= len(batch)
            index.add_older(batch, position)
            model |= {i: position + n for n, i in enumerate(batch)}
    position = 100
    for batch in newer:
        repeated = [i for i in batch if i in model]
        if repeated:
            assert not index.are_new(batch)
        fresh = [i for i in batch if i not in model]
        if fresh:
            if not index.are_new(fresh):  # a stretch has holes, and sends one to look at the file
                assert any(places(index, i) for i in fresh)
            index.add(fresh, position)
            model |= {i: position + n for n, i in enumerate(fresh)}
            position += len(fresh)
        if chance.random() < 0.3:
            index.move(chance.randrange(1, 8))
    for event_id, where in model.items():
        assert where in places(index, event_id), event_id
