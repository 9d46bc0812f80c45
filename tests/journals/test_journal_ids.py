"""The index of ids, driven through every stage of an id's life."""

import pytest

from openoutcry.journals import ids
from openoutcry.journals.ids import IdIndex


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "RECENT", 10)


def filled(count: int) -> IdIndex:
    index = IdIndex()
    for first in range(1, count, 5):
        some = {f"id-{n}": n for n in range(first, first + 5)}
        assert index.are_new(some)
        index.add(some)
    return index


def test_an_id_is_found_where_it_stands_however_old_it_is() -> None:
    index = filled(500)
    assert all(list(index.places(f"id-{n}")) == [n] for n in range(1, 501))
    assert list(index.places("id-501")) == []


def test_old_and_new_ids_are_told_apart() -> None:
    index = filled(500)
    assert not index.are_new(["new", "id-7"])
    assert not index.are_new(["id-499"])
    assert index.are_new(["new", "newer"])


def test_forgotten_ids_are_new_again_and_their_memory_comes_back() -> None:
    index = filled(500)
    index.forget(450)
    assert list(index.places("id-450")) == []
    assert list(index.places("id-451")) == [451]
    while index.move(100):
        pass
    while index.sweep():
        pass
    assert index.are_new(["id-3"])
    assert list(index.places("id-455")) == [455]
    assert sum(map(len, index._buckets)) <= 50 * 11


def test_ids_from_before_the_opening_are_found_too() -> None:
    index = IdIndex()
    index.add({"new": 100})
    for first in range(90, 0, -10):
        index.add_older([f"id-{n}" for n in range(first, first + 10)], first)
    assert list(index.places("id-99")) == [99]
    assert list(index.places("id-10")) == [10]
    assert list(index.places("new")) == [100]


STEM = "0123456789abcdef-"


def hexes(first: int, last: int, stem: str = STEM) -> dict[str, int]:
    return {f"{stem}{n:x}": n for n in range(first, last)}


def packed(index: IdIndex) -> IdIndex:
    index.add(hexes(1, 300))
    for first in range(300, 360, 5):
        index.add({f"recent-{n}": n for n in range(first, first + 5)})
    while index.move(50):
        pass
    assert index._highest[STEM[:16]] == (len(STEM) + 3, f"{STEM}12b")
    return index


def test_ids_that_go_on_counting_are_new_without_asking_the_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    index = packed(IdIndex())
    monkeypatch.setattr(IdIndex, "_in_buckets", None)
    assert index.are_new(hexes(0x12C, 0x1200))
    assert index.are_new(hexes(0, 5, "another process-"))


@pytest.mark.parametrize("number", [1, 9, 0xF, 0x10, 0xFF, 0x100, 0x12B])
def test_an_old_id_of_a_counting_stem_is_found_among_new_ones(number: int) -> None:
    index = packed(IdIndex())
    assert not index.are_new([*hexes(0x2000, 0x2005), f"{STEM}{number:x}"])
    assert not index.are_new([f"{STEM}{number:x}", *hexes(0, 5, "another process-")])


def test_ids_without_a_stem_in_common_are_told_apart_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_STEMS", 20)
    index = IdIndex()
    for first in range(1, 500, 5):
        index.add({f"{n * 7919:x}".rjust(20, "q")[::-1]: n for n in range(first, first + 5)})
    assert not index.are_new([f"{7919 * 3:x}".rjust(20, "q")[::-1]])
    assert index.are_new([f"{7919 * 501:x}".rjust(20, "q")[::-1]])
