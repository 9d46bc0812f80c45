"""Where a desk's groups stand in a log: what is remembered of it says what reading the log would say."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_kit import a_group

from openoutcry.links.nats import trimming
from openoutcry.links.nats.trimming import OwnPlaces
from openoutcry.ports import Group

Appended = list[tuple[Group, int]]


def by_reading(appended: Appended, upto: int) -> int:
    """What the rule says, of a whole log."""
    newest, place = appended[-1]
    before = 0
    for group, number in appended:
        if group.journal == newest.journal:
            if group.upto > upto:
                break
            before = number + 1
    return min(before, place)


@st.composite
def logs(draw: st.DrawFn) -> Appended:
    """Groups that follow one another, begin again from before, or in another run."""
    appended: Appended = []
    after, place, journal = 0, draw(st.integers(1, 9)), "j1"
    for _ in range(draw(st.integers(1, 40))):
        after = draw(st.one_of(st.just(after), st.integers(0, after)))
        journal = draw(st.sampled_from([journal] * 8 + ["j1", "copy:j1", "j2"]))
        upto = after + draw(st.integers(1, 5))
        place += draw(st.integers(1, 3))
        appended.append((a_group(after, upto, journal=journal), place))
        after = upto
    return appended


@settings(max_examples=300)
@given(appended=logs(), asked=st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_what_is_remembered_says_what_the_log_says(appended: Appended, asked: list[int]) -> None:
    own, log = OwnPlaces(), Appended()
    for upto in asked:
        some, appended = appended[: len(appended) // 2 + 1], appended[len(appended) // 2 + 1 :]
        for group, place in some:
            own.note(group, place)
            log.append((group, place))
        before = own.before(upto)
        assert before == by_reading(log, upto)
        own.removed(before)
        log = [one for one in log if one[1] >= before]


@settings(max_examples=300)
@given(appended=logs(), upto=st.integers(0, 60))
def test_of_many_groups_fewer_are_remembered_and_none_is_removed_too_early(
    appended: Appended, upto: int
) -> None:
    own = OwnPlaces()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trimming, "KNOWN_MOST", 5)
        for group, place in appended:
            own.note(group, place)
    assert own.before(upto) <= by_reading(appended, upto)
    if len({group.journal for group, _ in appended}) == 1:
        assert len(own._known) <= 5
    newest: Any = appended[-1]
    assert (own.newest.place, own.newest.upto >= newest[0].upto) == (newest[1], True)


def test_groups_of_one_run_are_removed_up_to_where_they_are_remembered() -> None:
    own = OwnPlaces()
    count = trimming.KNOWN_MOST * 3
    for number in range(count):
        own.note(a_group(number, number + 1, size_bytes=0), number + 1)
    assert len(own._known) <= trimming.KNOWN_MOST
    for upto in (1, 1_000, count // 2, count - 100):
        assert upto - 16 <= own.before(upto) <= upto + 1
    assert own.before(count) == count  # the newest stays


def test_a_log_that_gives_places_again_is_read_anew() -> None:
    own = OwnPlaces()
    for number in range(5):
        own.note(a_group(number, number + 1), 100 + number)
    own.is_first_of_all = True
    own.note(a_group(3, 4), 103)
    assert (own.first, own.is_first_of_all, own.before(3)) == (103, False, 0)
