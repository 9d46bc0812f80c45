"""The page's explanations: what is asked for, what is bounded, and what is refused."""

from pathlib import Path

import pytest
from lineage_kit import everything, traded, written
from page_kit import LOOK, served

from openoutcry import DecisionEvent, Event, SignalEvent
from openoutcry.errors import ConfigError
from openoutcry.journals import Lineage

HOSTILE = "<img onerror=x>\u202e\x1b[2J" + "A" * 4_000


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return traded(tmp_path_factory.mktemp("firm") / "firm.db")


def test_an_order_is_explained_in_its_parts_and_as_text(journal: Path, tmp_path: Path) -> None:
    with served(journal, tmp_path) as client:
        found = client.log_in(LOOK).get("/api/why?ref=o-1").json
    assert [step["type"] for step in found["chain"]][-1] == "fill"
    assert found["title"].startswith("Why 90 AAPL were bought")
    assert found["chain"][1]["remark"] == "the loudest of 3 votes"
    (round_,) = found["rounds"]
    assert [(side["name"], side["count"]) for side in round_["sides"]] == [
        ("For buying", 2),
        ("Against buying", 1),
    ]
    assert [side["name"] for side in round_["absent"]] == ["Abstained", "Late, so not counted", "Missing"]
    with Lineage(journal) as lineage:
        assert found["text"] == lineage.explain("o-1").text()


def test_what_came_of_it_is_asked_for_apart(journal: Path, tmp_path: Path) -> None:
    with served(journal, tmp_path) as client:
        found = client.log_in(LOOK).get("/api/why?ref=o-1&forward=1").json
    assert [step["type"] for step in found["steps"]] == ["fill"]


def test_what_cannot_be_explained_is_refused_with_a_sentence(journal: Path, tmp_path: Path) -> None:
    with served(journal, tmp_path) as client:
        assert client.get("/api/why?ref=o-1").status == 401
        client.log_in(LOOK)
        nothing = client.get("/api/why?ref=nothing")
        assert (nothing.status, "has no event, order" in nothing.error) == (404, True)
        assert client.get("/api/why").status == 400
        assert client.get(f"/api/why?ref={'x' * 501}").status == 400
        for address in ("/why", "/why/o-1", "/why/%231", "/why/a%2Fb"):
            assert client.get(address).status == 200


class DeskBasket(Event, kw_only=True):
    event_type: str = "desk_basket"
    basket: str


class DeskPart(Event, kw_only=True):
    event_type: str = "desk_part"
    basket: str


def test_fields_of_ones_own_and_other_desks_journals_are_followed(tmp_path: Path) -> None:
    made, part = DeskBasket(basket="b-7"), DeskPart(basket="b-7")
    journal = written(tmp_path / "firm.db", made, part)
    other = traded(tmp_path / "other.db")
    with served(journal, tmp_path / "a") as client:
        found = client.log_in(LOOK).get(f"/api/why?ref={part.event_id}").json
    assert [step["type"] for step in found["chain"]] == ["desk_part"]
    assert "--reference basket" in found["unknown"][0]
    with served(journal, tmp_path / "b", references=["basket"], journals=[other]) as client:
        found = client.log_in(LOOK).get(f"/api/why?ref={part.event_id}").json
    assert [step["type"] for step in found["chain"]] == ["desk_basket", "desk_part"]
    with pytest.raises(ConfigError, match="list of fields"), served(journal, tmp_path, references="basket"):
        pass


def test_every_text_of_an_explanation_is_bounded_and_safe(tmp_path: Path) -> None:
    signal = SignalEvent(
        source_agent="a",
        strategy_name=HOSTILE,
        symbol="ES",
        direction="long",
        rationale=HOSTILE,
        round_id=HOSTILE,
    )
    decision = DecisionEvent(
        symbol="ES",
        action="buy",
        quantity=1,
        rationale=HOSTILE,
        contributing_signals=(signal.event_id,),
        round_id=HOSTILE,
    )
    path = written(tmp_path / "firm.db", signal, decision)
    with served(path, tmp_path) as client:
        client.log_in(LOOK)
        for more in ("", "&forward=1"):
            answer = client.get(f"/api/why?ref=%231{more}")
            assert answer.status == 200
            assert len(answer.body) < 8_000
            assert "\\u202e" not in answer.body.decode().replace("\\\\u202e", "")
            assert "\u202e" not in answer.body.decode()


def test_an_event_at_each_position_can_be_asked_for(journal: Path, tmp_path: Path) -> None:
    with served(journal, tmp_path) as client:
        client.log_in(LOOK)
        for entry in everything(journal):
            assert client.get(f"/api/why?ref=%23{entry.position}").status == 200
