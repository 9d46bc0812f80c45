"""The judge of kill switches in the campaigns on desks finds what it should, and nothing else."""

from campaigns.firm_switches import HEARD_NS, Life, Switches, heard_in_time, judge_active, judge_journals

LONG_NS = 4 * HEARD_NS
MS = 1_000_000


def a_life(desk, *lines, whole=((0, LONG_NS),)):
    return Life(desk, [line.split() for line in lines], whole)


def a_journal(*thrown, releases=(), own=()):
    had = Switches()
    for one in thrown:
        had.note(one, b"{}", None, is_own=one in own)
    for one, ended in releases:
        had.note(one, b"{}", ended, is_own=one in own)
    return had


def test_one_that_all_have_heard_in_time_is_good() -> None:
    thrower = a_life("a", "threw k 5 True", "heard k 6 True", "kept k True")
    taker = a_life("b", f"heard k {7 * MS} True")
    assert heard_in_time([thrower, taker]) == ([7 * MS - 5], [])


def test_one_that_a_whole_desk_has_not_heard_is_found_also_at_its_own_desk() -> None:
    thrower = a_life("a", "threw k 5 True", "kept k True")
    assert heard_in_time([thrower, a_life("b")]).found == ["a heard k by a never", "b heard k by a never"]


def test_one_that_was_heard_late_is_found_and_a_desk_that_was_not_whole_is_left_out() -> None:
    thrower = a_life("a", "threw k 5 False", "heard k 5 False", "kept k False")
    late = a_life("b", f"heard k {HEARD_NS + 5 + MS} False")
    away = a_life("c", whole=((0, 3), (2 * HEARD_NS, LONG_NS)))
    assert heard_in_time([thrower, late, away]).found == ["b heard the release of k by a 5001 ms later"]


def test_a_release_of_one_that_nobody_has_thrown_was_refused_and_there_is_none_to_be_heard() -> None:
    asked = a_life("a", "threw k 5 False", "inactive k")
    assert heard_in_time([asked, a_life("b")]) == ([], [])


def test_a_release_that_is_refused_of_one_that_was_heard_is_found() -> None:
    asked = a_life("b", "heard k 3 True", "threw k 5 False", "inactive k")
    assert heard_in_time([asked]).found == ["b had heard k, and could not release it"]
    again = a_life("b", "heard k 3 True", "heard k 4 False", "threw k 5 False", "inactive k")
    assert heard_in_time([again]).found == []


def test_who_died_before_it_was_answered_has_promised_nothing_and_who_lives_on_is_to_be_answered() -> None:
    dead = a_life("a", "threw k 5 True", whole=((0, MS),))
    assert heard_in_time([dead, a_life("b")]) == ([], [])
    alive = a_life("a", "threw k 5 True")
    assert heard_in_time([alive]).found == ["a was not answered for 5 s when it published k"]


def test_what_one_journal_has_of_its_own_every_other_one_must_have_in_the_same_words() -> None:
    a, b = a_journal("k", own=["k"]), a_journal()
    assert judge_journals({"a": a, "b": b}, []) == [
        "the journal of b lacks 1 kill switches or releases: ['k']"
    ]
    b.note("k", b"{ }", None, is_own=False)
    assert judge_journals({"a": a, "b": b}, []) == ["the journal of b has k in other words than another one"]


def test_what_a_dead_desk_was_heard_to_say_is_owed_to_nobody_and_what_it_accepted_is_owed_to_all() -> None:
    heard = {"a": a_journal(), "b": a_journal("k"), "c": a_journal()}
    assert judge_journals(heard, []) == []
    assert len(judge_journals(heard, [("k", "True")])) == 2
    released = {"a": a_journal("k", releases=[("r", ["k"])], own=["k", "r"]), "b": a_journal("k")}
    assert len(judge_journals(released, [("k", "True"), ("k", "False")])) == 1


def test_one_that_is_in_a_journal_twice_is_found() -> None:
    assert judge_journals({"a": a_journal("k", "k", own=["k"])}, []) == [
        "the journal of a has more than once: ['k']"
    ]


def test_every_desk_ends_with_those_that_were_thrown_and_not_released() -> None:
    journals = {"a": a_journal("k", "m", releases=[("r", ["k"])]), "b": a_journal("k", "m")}
    assert judge_active(journals, {"a": {"m"}, "b": {"m"}}) == []
    assert judge_active(journals, {"a": {"m"}, "b": {"k", "m"}}) == ["on b ['k'] are active, and [] are not"]
    assert judge_active(journals, {"a": set(), "b": {"m"}}) == ["on a [] are active, and ['m'] are not"]
