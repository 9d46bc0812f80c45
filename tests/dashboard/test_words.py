"""Records of the bus are a line that a person reads, and nothing else is made into words."""

from typing import Any

import msgspec
import pytest
from page_kit import tick

from openoutcry.dashboard.words import answer_in_words, sentence, target_in_words
from openoutcry.events import (
    AnswerRecorded,
    OperatorAction,
    RoundLate,
    RoundOpened,
    RoundReleased,
    RunStarted,
    encode,
)
from openoutcry.events.records import StoodIn

MS = 1_000_000
AGENTS = tuple(f"agent-{number}" for number in range(14))


def released(**changed) -> RoundReleased:
    given = {
        "round_id": "AAPL@12",
        "status": "quorate",
        "valid": True,
        "reason": "signal_timeout passed with the quorum met",
        "opened_wall_ns": 1,
        "took_ns": 200 * MS,
        "noticed_ns": 200 * MS,
        "roster": AGENTS,
        "quorum_count": 10,
        "signal_timeout_ns": 200 * MS,
        "barrier_timeout_ns": 400 * MS,
        "missing": ("agent-3", "agent-7"),
        **changed,
    }
    return RoundReleased(**given)


def test_a_released_round_says_how_it_ended_how_many_answered_and_who_is_missing():
    assert sentence(encode(released())) == (
        "round AAPL@12 released: quorate, 12 of 14 in 200 ms, missing agent-3 and agent-7"
    )
    assert sentence(encode(released(missing=(), status="complete"))) == (
        "round AAPL@12 released: complete, 14 of 14 in 200 ms"
    )
    nobody = sentence(encode(released(missing=AGENTS, status="expired", valid=False)))
    assert nobody is not None
    assert nobody.startswith("round AAPL@12 released: expired, not valid, 0 of 14")
    assert nobody.endswith("agent-4, agent-5 and 8 more")


def test_an_old_signal_that_stood_in_is_told_of():
    stood = (StoodIn("agent-3", "AAPL", "s-1", 5, "AAPL@11"), StoodIn("agent-3", "IBM", "s-2", 5, "AAPL@11"))
    said = sentence(encode(released(missing=("agent-3",), stand_ins=stood)))
    assert said is not None
    assert said.endswith("missing agent-3; an old signal stood in for agent-3")


def test_an_id_that_was_made_up_is_not_a_name():
    made_up = "round-27a0b79327a09ff8-007"
    assert "round for AAPL released" in (sentence(encode(released(round_id=made_up, symbol="AAPL"))) or "")
    assert (sentence(encode(released(round_id=made_up))) or "").startswith("round released: ")


def test_the_other_records_are_sentences_too():
    opened = RoundOpened(
        round_id="AAPL@12",
        opened_by="cio",
        roster=AGENTS,
        quorum_count=10,
        signal_timeout_ns=200 * MS,
        barrier_timeout_ns=400 * MS,
    )
    late = RoundLate(round_id="AAPL@12", agent="llm", number=1, late_ns=376_229_562, signal_id="s-1")
    refusing = RoundLate(round_id="AAPL@12", agent="llm", number=1, late_ns=2, reason="no view")
    started = RunStarted(version="0.1.0", python="3.12.1", process_id=7, host="desk", app="firm:bus")
    assert sentence(encode(opened)) == (
        "round AAPL@12 opened by cio: 14 agents expected, 10 suffice after 200 ms"
    )
    assert sentence(encode(late)) == "round AAPL@12: llm's signal came 376 ms after the release"
    assert sentence(encode(refusing)) == (
        "round AAPL@12: llm's abstention (no view) came 2 ns after the release"
    )
    assert sentence(encode(started)) == (
        "started firm:bus: openoutcry 0.1.0, Python 3.12.1, process 7 on desk"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ended": "returned", "subscription": "llm"}, "llm asked model: answered after 250 ms"),
        ({"ended": "raised", "error": "OSError()"}, "the main program asked model: OSError() after 250 ms"),
        ({"ended": "cancelled", "subscription": "llm"}, "llm asked model: cancelled after 250 ms"),
    ],
)
def test_an_answer_from_outside_is_a_sentence(fields: dict[str, Any], words: str):
    assert sentence(encode(AnswerRecorded(name="model", took_ns=250 * MS, **fields))) == words


HEARD = {"id": "k", "total": 22, "heard": 21, "slowest_ns": 3 * MS, "waiting": ["llm"], "failed": []}


@pytest.mark.parametrize(
    ("verb", "answer", "words"),
    [
        ("halt", msgspec.json.encode(HEARD).decode(), "heard by 21 of 22 in 3 ms; waiting for llm"),
        ("release", "1", "1 kill switch released"),
        ("release", "2", "2 kill switches released"),
        ("redrive", "1200", "1,200 letters handed over again"),
        ("drop_dead_letters", "1", "1 letter dropped"),
        ("pause", "paused", "paused"),
        ("resume", "true", "done"),
        ("drop_cursor", "null", "done"),
        ("release", "NotAuthorised: ada may not release", "NotAuthorised: ada may not release"),
        ("halt", '{"id": "cut off', '{"id": "cut off'),
        ("a verb of tomorrow", "17", "17"),
        ("halt", '{"id": 1}', '{"id": 1}'),
    ],
)
def test_what_the_bus_answered_is_said_in_words_or_as_it_is(verb: str, answer: str, words: str):
    assert answer_in_words(verb, answer) == words


def test_an_action_names_who_did_what_and_what_became_of_it():
    action = OperatorAction(
        operator="ada",
        via="page",
        verb="drop_dead_letters",
        target="books, letter_ids 1 2 3",
        reason="known",
        answer="3",
    )
    assert target_in_words(action.target) == "books"
    assert sentence(encode(action)) == "ada, page: drop dead letters books (known): 3 letters dropped"


def test_what_is_no_record_or_a_damaged_one_is_left_as_it_is():
    payload = encode(released())
    assert sentence(encode(tick(1))) is None
    assert sentence(payload[:-5]) is None
    assert sentence(payload.replace(b'"took_ns"', b'"gone"')) is None
    assert sentence(payload.replace(b'"round_released"', b'"round_dreamt"')) is None


def test_hostile_text_in_a_record_steers_no_screen():
    said = sentence(encode(released(round_id="a\u202eb\x1b[31m\nc")))
    assert said is not None
    assert not {"\u202e", "\x1b", "\n"} & set(said)
