"""What is told of a link between desks: its figures, and what is wrong with it, with the desk's name."""

from typing import Any

import pytest
from msgspec.structs import replace
from tests.observers.parse import parsed
from tests.observers.test_reading import NOW, WALL, S, a_pulse, a_shape, the_one

from openoutcry.core.link_words import WHAT_TO_DO, LinkWord, worst
from openoutcry.observers.link_metrics import LINK
from openoutcry.observers.metrics import families
from openoutcry.observers.prometheus import exposition, openmetrics
from openoutcry.observers.pulse import Finding, Pulse
from openoutcry.observers.reading import wrong
from openoutcry.observers.standing import DeskStanding, ImportStanding, LinkStanding, LogStanding

FLOOR = DeskStanding(
    desk="floor",
    word="up",
    holder="p1",
    host="h1",
    heard_ns=NOW - S // 4,
    version="1",
    ahead_ns=-2 * S,
    halts=1,
    logs=[ImportStanding("high", 90, 80, 7, 40, 2, ""), ImportStanding("normal", 50, 50, 9, 6, 0, "8 to 12")],
    ticks=100,
    ticks_conflated=30,
    ticks_lost=4,
)
LINK_UP = LinkStanding(
    firm="alpha",
    desk="street",
    word="up",
    why="",
    engine="nats 2.15.1",
    is_connected=True,
    replicas=3,
    is_synced=False,
    holder="p2",
    renewed_ns=NOW - 2 * S,
    lease_s=15.0,
    on_link_lost="alert",
    ticks_sent=12,
    logs=[
        LogStanding("high", 20, 15, NOW - 3 * S, 5, 15, 1, 4_096, 8_192),
        LogStanding("normal", 20, 20, 0, 2, 60, 0, 100, 0),
    ],
    desks=[FLOOR],
)


def linked(**given: Any) -> Pulse:
    return a_pulse(link=replace(LINK_UP, **given))


def found(pulse: Pulse, make: Any = exposition) -> dict[str, dict[tuple[str, ...], float]]:
    read = parsed(make(families(a_shape(), pulse, {})).decode())
    return {
        name.removeprefix("openoutcry_link_"): {tuple(s.labels.values()): s.value for s in family.samples}
        for name, family in read.items()
        if name.startswith("openoutcry_link_")
    }


@pytest.mark.parametrize("make", [exposition, openmetrics])
def test_every_figure_of_a_link_is_told_in_both_formats(make: Any) -> None:
    assert found(linked(), make).keys() == {name.removesuffix("_total") for name, *_ in LINK}


def test_a_bus_without_a_link_has_no_figures_of_one() -> None:
    assert found(a_pulse()) == {}


def test_the_figures_are_those_of_the_link() -> None:
    of = found(linked())
    assert of["info"] == {("alpha", "street", "nats 2.15.1"): 1}
    assert of["word"] == {(word,): float(word == "up") for word in LinkWord}
    assert of["connected"] == {(): 1}
    assert of["synced"] == {(): 0}
    assert of["seat_age_seconds"] == {(): 2}
    assert of["export_waiting_positions"] == {("high",): 5, ("normal",): 0}
    assert of["export_waiting_seconds"] == {("high",): 3, ("normal",): 0}
    assert of["import_waiting_positions"] == {("floor", "high"): 10, ("floor", "normal"): 0}
    assert of["import_gap"] == {("floor", "high"): 0, ("floor", "normal"): 1}
    assert of["desk_heard_age_seconds"] == {("floor",): 0.25}
    assert of["desk_clock_ahead_seconds"] == {("floor",): -2}
    assert of["ticks_lost"] == {("floor",): 4}


def test_a_desk_that_was_never_heard_has_no_age() -> None:
    of = found(linked(desks=[replace(FLOOR, heard_ns=0, word="")], renewed_ns=0))
    assert "desk_heard_age_seconds" not in of
    assert "desk_word" not in of
    assert "seat_age_seconds" not in of


def test_nothing_is_wrong_with_a_link_that_is_up() -> None:
    assert wrong(a_shape(), linked()) == []


@pytest.mark.parametrize(
    ("word", "severity"),
    [("behind", "warn"), ("gap", "warn"), ("full", "bad"), ("stalled", "bad"), ("fenced", "critical")],
)
def test_a_word_but_up_is_wrong_with_its_reason_or_what_to_do(word: str, severity: str) -> None:
    one = the_one(wrong(a_shape(), linked(word=word, why="street is 900 behind floor")))
    assert (one.severity, one.sentence) == (severity, f"the link is {word}: street is 900 behind floor")
    one = the_one(wrong(a_shape(), linked(word=word)))
    assert one.sentence == f"the link is {word}: {WHAT_TO_DO[LinkWord(word)]}"


def test_what_a_health_check_has_found_of_the_link_is_not_told_twice() -> None:
    finding = Finding("link", "unhealthy", "street", "no other desk was heard for 6 s")
    pulse = replace(linked(word="stalled"), findings=[finding], health_checked_ns=WALL)
    assert the_one(wrong(a_shape(), pulse)).sentence == "street: no other desk was heard for 6 s"


def test_a_word_of_a_newer_version_is_shown_as_it_is() -> None:
    one = the_one(wrong(a_shape(), linked(word="sideways", why="")))
    assert (one.severity, one.sentence) == ("bad", "the link is sideways: ")


def test_a_silent_desk_is_named_with_how_long() -> None:
    one = the_one(wrong(a_shape(), linked(desks=[replace(FLOOR, heard_ns=NOW - 12 * S)])))
    assert (one.severity, one.culprit, one.sentence) == (
        "bad",
        "floor",
        "desk floor has not been heard for 12 s",
    )
    assert one.since_ns == WALL - 12 * S
    assert wrong(a_shape(), linked(desks=[replace(FLOOR, heard_ns=NOW - 2 * S)])) == []
    assert wrong(a_shape(), linked(desks=[replace(FLOOR, heard_ns=0)])) == []


def test_a_desk_that_was_stopped_is_not_missed() -> None:
    gone = linked(desks=[replace(FLOOR, heard_ns=NOW - 99 * S, word="away")])
    assert wrong(a_shape(), gone) == []
    assert "desk_heard_age_seconds" not in found(gone)


@pytest.mark.parametrize(("ahead_s", "side"), [(180, "ahead of"), (-180, "behind")])
def test_clocks_that_lie_minutes_apart_are_told_of(ahead_s: int, side: str) -> None:
    one = the_one(wrong(a_shape(), linked(desks=[replace(FLOOR, ahead_ns=ahead_s * S)])))
    assert one.sentence == f"the clock of desk floor is 3 min {side} this one"


def test_ticks_that_were_lost_just_now_are_told_of() -> None:
    worse = linked(desks=[replace(FLOOR, ticks_lost=9)])
    worse = replace(worse, now_ns=NOW + S, wall_ns=WALL + S)
    one = the_one(wrong(a_shape(), worse, linked()))
    assert one.sentence == "5 ticks of desk floor never came, just now"
    assert wrong(a_shape(), worse) == []


def test_the_worst_word_is_told_of_several() -> None:
    assert worst([]) is LinkWord.UP
    assert worst([LinkWord.BEHIND, LinkWord.STALLED, LinkWord.GAP]) is LinkWord.STALLED
    assert WHAT_TO_DO.keys() == set(LinkWord)
