import copy
import json
import pickle
from typing import NamedTuple

import pytest

from openoutcry.core.barrier import Round
from openoutcry.core.outcome import RoundOutcome
from openoutcry.core.terms import agree
from openoutcry.errors import InvalidEvent

S = 1_000_000_000


class Signal(NamedTuple):
    event_id: str
    symbol: str = "ES"
    round_id: str | None = None


class Written(NamedTuple):
    event_id: str
    symbol: str = "ES"
    round_id: str | None = None

    def to_dict(self):
        return {"event_id": self.event_id, "confidence": 0.7}


class Unwritable(NamedTuple):
    event_id: str
    symbol: str = "ES"
    round_id: str | None = None

    def to_dict(self):
        raise InvalidEvent(
            "params['limit'] = Decimal('1.10'): would come back from a journal as the str '1.10'"
        )


def a_full_outcome() -> RoundOutcome:
    earlier = Round("r-8", agree(["pairs"], signal_timeout_ns=S, barrier_timeout_ns=S), -20 * S)
    earlier.arrive("pairs", Signal("old", "NQ"), -20 * S)
    terms = agree(
        ["momentum", "value", "macro", "pairs"],
        quorum=0.5,
        critical=["risk"],
        signal_timeout_ns=5 * S,
        barrier_timeout_ns=10 * S,
        stand_in_max_age_ns=60 * S,
    )
    round_ = Round("r-9", terms, 0, 1_704_205_800 * S, lambda: [earlier.outcome])
    round_.arrive("momentum", Written("1"), S)
    round_.arrive("momentum", Written("2"), 2 * S)
    round_.arrive("intruder", Signal("3"), 2 * S)
    round_.abstain("value", "no data", 3 * S)
    round_.heartbeat("macro", 4 * S)
    round_.arrive("macro", Signal("4"), 6 * S)
    round_.arrive("pairs", Signal("5"), 7 * S)
    assert round_.outcome is not None
    return round_.outcome


def test_the_explanation_tells_the_whole_story_in_one_paragraph():
    assert a_full_outcome().explain() == (
        "Round r-9 opened at 2024-01-02T14:30:00.000000000Z and was released after 6 s as quorate: "
        "the quorum was met after signal_timeout. "
        "3 of 5 agents answered (2 with an opinion, 1 abstained: value (no data)); the quorum was 3 from 5 s on, "
        "the hard deadline 10 s. Missing: pairs (silent) and risk (silent). "
        "Not on the roster, so not counted: intruder. "
        "Late, so not counted: pairs (by 1 s). "
        "Stale signals stand in, without a vote, for pairs on NQ by a signal of round r-8, 26 s old. "
        "No decision may rest on it: critical and missing, whatever the quorum says: risk."
    )


def test_the_explanation_names_signs_of_life_and_a_busy_loop():
    round_ = Round("r-1", agree(["a"], signal_timeout_ns=S, barrier_timeout_ns=S), 0)
    round_.heartbeat("a", S // 2)
    outcome = round_.tick(3 * S)
    assert outcome is not None
    assert (
        "barrier_timeout passed without the quorum, which a busy loop noticed 2 s later." in outcome.explain()
    )
    assert "a (alive 500 ms before the release)" in outcome.explain()
    assert outcome.explain().endswith("No decision may rest on it.")


def test_the_explanation_of_an_empty_and_of_an_abstaining_round():
    terms = {"signal_timeout_ns": S, "barrier_timeout_ns": S}
    nobody = Round("r-1", agree([], **terms), 0).outcome  # type: ignore[arg-type]
    assert nobody is not None
    assert nobody.explain() == (
        "Round r-1 opened and was released after 0 s as empty: nobody is registered, so there is nobody to "
        "wait for. No decision may rest on it."
    )
    shy = Round("r-2", agree(["a"], **terms), 0)  # type: ignore[arg-type]
    shy.abstain("a", "", 1)
    assert shy.outcome is not None
    assert shy.outcome.explain().endswith("It is valid, but all who answered abstained.")


def test_everything_is_in_the_dictionary_and_the_dictionary_is_json():
    told = json.loads(json.dumps(a_full_outcome().to_dict()))
    assert told["votes"] == [
        {
            "agent": "momentum",
            "symbol": "ES",
            "after_ns": 2 * S,
            "signal": {"event_id": "2", "confidence": 0.7},
        },
        {"agent": "macro", "symbol": "ES", "after_ns": 6 * S, "signal": {"event_id": "4", "symbol": "ES"}},
    ]
    assert told["missing_critical"] == ["risk"]
    assert (told["status"], told["valid"], told["released_after_ns"]) == ("quorate", False, 6 * S)
    assert told["stand_ins"][0]["age_ns"] == 26 * S
    assert told["late"][0]["late_ns"] == S
    assert told["heartbeats_after_ns"] == {"macro": 4 * S}
    assert told["opened_at"] == "2024-01-02T14:30:00.000000000Z"


def test_an_outcome_is_a_dict_of_opinions_that_nobody_can_change():
    outcome = a_full_outcome()
    before = dict(outcome)
    changes = [
        lambda: outcome.__setitem__("x", 1),  # type: ignore[assignment]
        lambda: outcome.__delitem__("macro"),
        lambda: outcome.update(x=1),
        lambda: outcome.setdefault("x", 1),
        lambda: outcome.pop("macro"),
        outcome.popitem,
        outcome.clear,
        lambda: outcome.__ior__({"x": 1}),
    ]
    for change in changes:
        with pytest.raises(TypeError, match="change a copy"):
            change()
    assert outcome == before
    assert isinstance(outcome, dict)


@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_and_pickles_keep_everything(remake):
    outcome = a_full_outcome()
    again = remake(outcome)
    assert type(again) is RoundOutcome
    assert again == outcome
    assert again.to_dict() == outcome.to_dict()


def test_the_repr_says_what_matters():
    assert repr(a_full_outcome()) == "<RoundOutcome 'r-9': quorate, not valid, 3 of 5 answered>"


def test_a_signal_that_cannot_be_written_does_not_keep_the_outcome_from_being():
    terms = agree(["value"], signal_timeout_ns=S, barrier_timeout_ns=S)
    round_ = Round("r-1", terms, 0)
    round_.arrive("value", Unwritable("s-1"), 1)
    assert round_.outcome is not None
    (vote,) = round_.outcome.to_dict()["votes"]
    assert vote["signal"]["event_id"] == "s-1"
    assert "params['limit']" in vote["signal"]["problem"]
