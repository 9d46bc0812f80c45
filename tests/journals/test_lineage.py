"""What an explanation says: how things are named, the chain, the round, and what is not known."""

import json
from pathlib import Path
from typing import Any

import pytest
from desks_kit import DeskJournal, close, event
from lineage_kit import NOON_NS, Firm, everything, trade, traded, written

from openoutcry import (
    ConfigError,
    DecisionEvent,
    Event,
    EventBus,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderSide,
    OrderStateChangeEvent,
    PersistenceConfig,
    SignalEvent,
)
from openoutcry.errors import UnknownReference
from openoutcry.journals import Explanation, Lineage, SqliteJournal
from openoutcry.ports import Entry, Header
from openoutcry.testing import run_virtual


@pytest.fixture(scope="module")
def firm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return traded(tmp_path_factory.mktemp("firm") / "firm.db")


def explained(path: Path, ref: str, *, forward: bool = False, **options: Any) -> Explanation:
    with Lineage(path, **options) as lineage:
        return lineage.explain(ref, forward=forward)


def types(found: Explanation) -> list[str]:
    return [step.event_type for step in found.chain]


WHOLE = ["market_data", "signal", "decision", "validated_decision", "order", "fill"]


def test_a_fill_leads_back_through_the_loudest_vote_to_the_bar(firm: Path) -> None:
    found = explained(firm, "o-1")
    assert types(found) == WHOLE
    assert [step.agent for step in found.chain] == [
        "market",
        "momentum",
        "cio",
        "risk",
        "execution",
        "broker",
    ]
    assert found.chain[1].remark == "the loudest of 3 votes"
    assert found.chain[3].said == "allowed 90 of 100"
    assert [step.after_ns for step in found.chain] == sorted(step.after_ns for step in found.chain)
    assert found.unknown == ()
    assert found.title.startswith("Why 90 AAPL were bought at 100.00 on ")
    assert "risk allowed 90 of 100." in found.summary


def test_the_round_says_who_was_for_it_and_against_it_and_who_did_not_count(firm: Path) -> None:
    (case,) = explained(firm, "o-1").rounds
    assert [(vote.agent, vote.side) for vote in case.votes] == [
        ("momentum", "for"),
        ("carry", "for"),
        ("value", "against"),
    ]
    hows = {cell.agent: cell.how for cell in case.round.cells}
    assert hows == {
        "momentum": "voted",
        "value": "voted",
        "carry": "voted",
        "llm": "late",
        "quiet": "missing",
        "shy": "abstained",
    }
    text = explained(firm, "o-1").text()
    assert "For buying (2): momentum (+0.80, 60% sure), carry (+0.30, 60% sure)." in text
    assert "Against buying (1): value (-0.50, 60% sure)." in text
    assert "llm (by 250.0 ms, would have said short AAPL -0.90)" in text
    assert "quiet (alive 50.0 ms before)" in text
    assert "Abstained (1): shy (no view)." in text
    assert "llm answered too late. quiet" not in text  # who was missing is said first
    assert "quiet did not answer. llm answered too late." in text


def ids_of_the_first_trade(firm: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in everything(firm):
        data = json.loads(entry.payload)
        found.setdefault(data["event_type"], data["event_id"])
        if data["event_type"] == "fill":
            found.setdefault("place", f"#{entry.position}")
    return found


@pytest.mark.parametrize("ref", ["c-1", "x-o-1", "fill", "place"])
def test_an_order_is_found_by_each_of_its_names(firm: Path, ref: str) -> None:
    name = ids_of_the_first_trade(firm).get(ref, ref)
    assert explained(firm, name).chain == explained(firm, "o-1").chain


def test_a_decision_is_explained_by_its_id_and_by_its_round(firm: Path) -> None:
    by_id = explained(firm, ids_of_the_first_trade(firm)["decision"])
    assert types(by_id) == WHOLE[:3]
    for ref in ("AAPL@1", "round:AAPL@1"):
        assert explained(firm, ref).chain == by_id.chain
    assert by_id.title.startswith("Why cio decided to buy 100 AAPL on ")


def test_a_refused_decision_says_who_refused_it(firm: Path) -> None:
    (verdict,) = (
        json.loads(entry.payload)["event_id"]
        for entry in everything(firm)
        if b"restricted list" in entry.payload
    )
    found = explained(firm, verdict)
    assert found.title.startswith("Why risk refused to have BAD traded")
    assert found.chain[-1].said == "refused: on the restricted list"


def test_a_position_is_the_sum_of_its_fills(firm: Path) -> None:
    for ref in ("AAPL", "position:AAPL"):
        found = explained(firm, ref)
        assert found.title.startswith("Why 180 AAPL are held, since fill #")
        assert [(one.quantity, one.held) for one in found.held] == [(90.0, 90.0), (90.0, 180.0)]
        assert types(found) == WHOLE
        assert "It raised a position from 90 AAPL bought to 180." in found.summary
    with pytest.raises(UnknownReference, match="nothing is held"):
        explained(firm, "position:BAD")


def fills(*traded: tuple[str, float, float]) -> list[FillEvent]:
    return [
        FillEvent(
            order_id=f"o-{n}", symbol="ES", side=OrderSide(side), filled_quantity=quantity, fill_price=price
        )
        for n, (side, quantity, price) in enumerate(traded)
    ]


@pytest.mark.parametrize(
    ("trades", "said", "held"),
    [
        ([("buy", 10, 5.0)], "It opened a position: 10 ES bought.", []),
        ([("buy", 10, 5), ("buy", 10, 7)], "It raised a position from 10 ES bought to 20.", []),
        (
            [("buy", 10, 5), ("buy", 10, 7), ("sell", 5, 4)],
            "It cut a position of 20 ES bought at 6.00 on average: a loss of 10.00 (33.3%) before commissions.",
            [10, 20, 15],
        ),
        (
            [("sell", 10, 5), ("buy", 10, 4)],
            "It closed a position of 10 ES sold short at 5.00 on average: a gain of 10.00 (20.0%) before commissions.",
            [-10, 0],
        ),
        (
            [("buy", 1, 5), ("sell", 1, 5), ("buy", 10, 5), ("sell", 15, 6)],
            "a gain of 10.00 (20.0%) before commissions. It left 5 ES sold short.",
            [10, -5],
        ),
    ],
)
def test_a_fill_says_what_it_has_made_of_the_position(
    tmp_path: Path, trades: list[tuple[str, float, float]], said: str, held: list[float]
) -> None:
    path = written(tmp_path / "firm.db", *fills(*trades))
    found = explained(path, f"#{len(trades)}")
    assert said in found.summary
    assert [one.held for one in found.held] == held


def test_what_came_of_a_signal_reaches_the_fill(firm: Path) -> None:
    signal = ids_of_the_first_trade(firm)["signal"]  # that of momentum, which the decision lists
    found = explained(firm, signal, forward=True)
    assert found.came_of is not None
    assert [step.event_type for step in found.came_of] == WHOLE[2:]
    assert [step.depth for step in found.came_of] == [1, 2, 3, 4]
    assert found.text().startswith("What came of this: long +0.80")


def test_what_came_of_an_order_begins_with_the_order(firm: Path) -> None:
    found = explained(firm, "c-1", forward=True)
    assert found.came_of is not None
    assert [step.event_type for step in found.came_of] == ["fill"]
    last = explained(firm, ids_of_the_first_trade(firm)["fill"], forward=True)
    assert last.came_of == ()
    assert "Nothing that the journal has names it as a cause." in last.text()


def test_what_came_of_a_round_is_what_was_decided(firm: Path) -> None:
    found = explained(firm, "AAPL@1", forward=True)
    assert found.came_of is not None
    assert [step.event_type for step in found.came_of] == WHOLE[2:]


@pytest.mark.parametrize("ref", ["", "nothing", "#0", "#999999", "round:", "x" * 2_000, "a\x00b", "\ud800"])
def test_what_the_journal_does_not_have_is_said(firm: Path, ref: str) -> None:
    with pytest.raises(UnknownReference):
        explained(firm, ref)


def test_a_name_is_found_without_following_it(firm: Path) -> None:
    with Lineage(firm) as lineage:
        ids = ids_of_the_first_trade(firm)
        kinds = {json.loads(entry.payload)["event_id"]: entry.position for entry in everything(firm)}
        assert lineage.find(ids["decision"]) == kinds[ids["decision"]]
        assert lineage.find("o-1") == kinds[ids["order"]]
        assert lineage.find("AAPL@1") == kinds["round:AAPL@1"]
        assert lineage.find("#3") == 3
        with pytest.raises(UnknownReference):
            lineage.find("nothing")


def test_json_has_everything(firm: Path) -> None:
    plain = explained(firm, "o-1").to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["rounds"][0]["round"]["explanation"].startswith("Round AAPL@1")


# -- what is named otherwise -------------------------------------------------------------------------


def test_a_decision_of_a_main_program_is_led_back_by_its_round(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"

    async def run() -> None:
        kept = PersistenceConfig(path=path, socket=False, levels={"market_data": "process"})
        async with EventBus(persistence_config=kept) as bus:
            bus.register_signal_agent("trend")

            @bus.on(name="trend")
            async def on_bar(bar: MarketDataEvent) -> None:
                await bus.publish_signal(
                    SignalEvent(
                        source_agent="trend",
                        strategy_name="trend",
                        symbol="ES",
                        direction="long",
                        strength=0.5,
                    )
                )

            opened = bus.open_round("ES-1")
            await bus.publish(MarketDataEvent(symbol="ES", price=1, round_id="ES-1"))
            await bus.wait_for_signals(opened.round_id)
            await bus.publish(
                DecisionEvent(symbol="ES", action="buy", quantity=1, round_id="ES-1", source_agent="main")
            )

    run_virtual(run())
    found = explained(path, "ES-1")
    assert types(found) == ["market_data", "signal", "decision"]
    assert found.rounds[0].votes[0].side == "for"
    assert found.unknown == ()
    came = explained(path, "round:ES-1", forward=True).came_of
    assert came is not None
    assert [step.event_type for step in came] == ["decision"]


def test_an_order_of_a_main_program_is_led_back_by_its_decision_before_its_round(tmp_path: Path) -> None:
    vote = SignalEvent(source_agent="a", strategy_name="a", symbol="ES", direction="long", round_id="r")
    decision = DecisionEvent(
        symbol="ES", action="buy", quantity=1, contributing_signals=(vote.event_id,), round_id="r"
    )
    order = OrderEvent(
        order_id="o-1", decision_id=decision.event_id, symbol="ES", side="buy", quantity=1, round_id="r"
    )
    path = written(tmp_path / "firm.db", vote, decision, order)
    assert types(explained(path, "o-1")) == ["signal", "decision", "order"]


class Basket(Event, kw_only=True):
    """An event class of a user's, whose fields name others in their own way."""

    event_type: str = "basket"
    basket: str
    because_of_id: str | None = None


class Slice(Event, kw_only=True):
    event_type: str = "basket_slice"
    basket: str
    parts_refs: tuple[str, ...] = ()


def test_fields_of_users_classes_that_end_as_references_do_are_followed(tmp_path: Path) -> None:
    bar = MarketDataEvent(symbol="ES", price=1)
    made = Basket(basket="b-1", because_of_id=bar.event_id)
    part = Slice(basket="b-1", parts_refs=(made.event_id,))
    path = written(tmp_path / "firm.db", bar, made, part)
    found = explained(path, part.event_id)
    assert types(found) == ["market_data", "basket", "basket_slice"]
    assert found.chain[1].remark == "found by its because_of_id"
    came = explained(path, bar.event_id, forward=True).came_of
    assert came is not None
    assert [step.event_type for step in came] == ["basket", "basket_slice"]


def test_other_fields_are_followed_when_they_are_named(tmp_path: Path) -> None:
    bar = MarketDataEvent(symbol="ES", price=1)
    made = Basket(basket="b-1", because_of_id=bar.event_id)
    part = Slice(basket="b-1")
    path = written(tmp_path / "firm.db", bar, made, part)
    alone = explained(path, part.event_id)
    assert types(alone) == ["basket_slice"]
    assert "--reference basket" in alone.unknown[-1]
    assert explained(path, part.event_id, references=["basket"]).unknown == ()
    assert explained(path, made.event_id).unknown == ()
    assert types(explained(path, part.event_id, references=["basket"])) == [
        "market_data",
        "basket",
        "basket_slice",
    ]
    assert explained(path, "b-1", references=["basket"]).chain[-1].event_type == "basket_slice"
    with pytest.raises(UnknownReference):  # whatever the index has by now
        explained(path, "b-1")
    with pytest.raises(ConfigError, match="list of fields"):
        Lineage(path, references="basket")


def test_a_fill_without_a_cause_is_led_back_by_its_order(tmp_path: Path) -> None:
    order = OrderEvent(order_id="o-9", symbol="ES", side="buy", quantity=1)
    fill = FillEvent(order_id="o-9", symbol="ES", side="buy", filled_quantity=1, fill_price=2)
    found = explained(written(tmp_path / "firm.db", order, fill), "o-9")
    assert types(found) == ["order", "fill"]
    assert found.chain[-1].remark == "found by its order_id"
    (said,) = found.unknown
    assert said.startswith("What led to order #1 is not known: it names no cause.")


def test_of_an_order_that_was_rejected_its_end_is_explained(tmp_path: Path) -> None:
    order = OrderEvent(order_id="o-9", symbol="ES", side="buy", quantity=1)
    end = OrderStateChangeEvent(
        order_id="o-9",
        from_state="pending_new",
        to_state="rejected",
        reason="no account",
        causation_id=order.event_id,
    )
    found = explained(written(tmp_path / "firm.db", order, end), "o-9")
    assert found.title.startswith("Why order o-9 went from pending_new to rejected on ")
    assert found.chain[-1].said == "order o-9: pending_new to rejected: no account"


def test_a_circle_of_causes_ends(tmp_path: Path) -> None:
    one = MarketDataEvent(symbol="ES", price=1, event_id="one", causation_id="two")
    two = MarketDataEvent(symbol="ES", price=1, event_id="two", causation_id="one")
    own = MarketDataEvent(symbol="ES", price=1, event_id="own", causation_id="own")
    path = written(tmp_path / "firm.db", one, two, own)
    assert len(explained(path, "two").chain) == 2
    assert len(explained(path, "own").chain) == 1
    assert explained(path, "one", forward=True).came_of is not None


def test_a_very_long_chain_is_cut_and_says_so(tmp_path: Path) -> None:
    events = [
        MarketDataEvent(symbol="ES", price=1, event_id=f"e-{n}", causation_id=f"e-{n - 1}" if n else None)
        for n in range(300)
    ]
    path = written(tmp_path / "firm.db", *events, batch=64)
    found = explained(path, "e-299")
    assert len(found.chain) == 200
    assert found.unknown == ("The chain is longer than 200 steps: what is before them is left out.",)
    came = explained(path, "e-0", forward=True)
    assert len(came.came_of or ()) == 200
    assert "More than 200 events came of it: the rest is left out." in came.unknown


def test_the_second_round_of_an_id_is_told_from_the_first(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    traded(path, ["AAPL"])
    traded(path, ["AAPL"])  # the same ids of rounds and orders once more, in another life
    entries = [json.loads(entry.payload) for entry in everything(path)]
    fills = [one["event_id"] for one in entries if one["event_type"] == "fill"]
    cases = [explained(path, fill).rounds[0] for fill in fills]
    assert [case.round.ordinal for case in cases] == [1, 2]
    assert all(len(case.votes) == 3 for case in cases)
    assert explained(path, "round:AAPL@1:2").chain == explained(path, fills[1]).chain[:3]


def test_a_round_whose_id_ends_as_an_ordinal_is_told_from_a_second_use(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"

    async def run() -> None:
        async with EventBus(persistence_config=PersistenceConfig(path=path, socket=False)) as bus:
            bus.register_signal_agent("a")
            for name, strength in (("r", 0.5), ("r:2", -0.5)):
                bus.open_round(name)
                await bus.publish_signal(
                    SignalEvent(
                        source_agent="a",
                        strategy_name="a",
                        symbol="ES",
                        direction="long" if strength > 0 else "short",
                        strength=strength,
                        round_id=name,
                    )
                )
                await bus.wait_for_signals(name)

    run_virtual(run())
    for name, strength in (("r", 0.5), ("r:2", -0.5)):
        (case,) = explained(path, name).rounds
        assert (case.round.round_id, case.votes[0].strength) == (name, strength)


def test_an_empty_journal_has_nothing(tmp_path: Path) -> None:
    SqliteJournal(tmp_path / "firm.db").close()
    with Lineage(tmp_path / "firm.db") as lineage:
        assert lineage.index().position == 0
        with pytest.raises(UnknownReference):
            lineage.explain("o-1")


# -- what is not known -------------------------------------------------------------------------------


def test_market_data_that_was_not_recorded_is_named(tmp_path: Path) -> None:
    found = explained(traded(tmp_path / "firm.db", ["AAPL"], levels={}), "o-1")
    assert types(found) == WHOLE[1:]
    (said,) = found.unknown
    assert said.startswith("The cause of decision #")
    assert said.endswith("is not in the journal: market data was not recorded by the settings of that run.")


def test_market_data_that_is_recorded_beside_is_a_step(tmp_path: Path) -> None:
    found = explained(traded(tmp_path / "firm.db", ["AAPL"], levels={}, record="replay"), "o-1")
    assert (types(found), found.unknown) == (WHOLE, ())


def test_rounds_that_were_not_recorded_are_named(tmp_path: Path) -> None:
    found = explained(traded(tmp_path / "firm.db", ["AAPL"], record="off"), "o-1")
    assert types(found) == WHOLE  # the decision lists its signals
    assert found.rounds == ()
    (said,) = found.unknown
    assert said.endswith('is not on record: rounds were not recorded (record="off").')


def test_signals_that_were_not_kept_are_named(tmp_path: Path) -> None:
    levels = {"market_data": "process", "signal": "memory"}
    found = explained(traded(tmp_path / "firm.db", ["AAPL"], levels=levels), "o-1")
    assert (
        "What 3 votes of round AAPL@1 said is not known: the signals are not in the journal." in found.unknown
    )
    assert types(found)[-4:] == WHOLE[2:]
    assert "Not known what they said (3): carry, momentum, value." in found.text()


def test_what_retention_has_taken_is_named(tmp_path: Path) -> None:
    bar = MarketDataEvent(symbol="ES", price=1)
    decision = DecisionEvent(symbol="ES", action="buy", quantity=1, causation_id=bar.event_id)
    path = written(tmp_path / "firm.db", bar, decision, batch=1)
    assert explained(path, decision.event_id).unknown == ()
    with SqliteJournal(path) as journal:
        journal.retire(keep_count=1)
    with pytest.raises(UnknownReference, match="what stood before #2 is no longer kept"):
        explained(path, bar.event_id)
    found = explained(path, decision.event_id)
    assert types(found) == ["decision"]
    assert found.unknown == (
        f"The cause of decision #2, {bar.event_id}, is not in the journal: what stood before #2 is no longer kept.",
    )


# -- the text of events is data ----------------------------------------------------------------------

HOSTILE = "\x1b[2J\u202e<img onerror=x>\nRound: fine\x00\u2028" + "A" * 5_000


def test_the_text_of_events_is_escaped_and_bounded(tmp_path: Path) -> None:
    signal = SignalEvent(
        source_agent=HOSTILE[:100],
        strategy_name=HOSTILE,
        symbol=HOSTILE,
        direction="long",
        rationale=HOSTILE,
        causation_id=HOSTILE,
        round_id=HOSTILE,
    )
    decision = DecisionEvent(
        symbol="ES",
        action="buy",
        quantity=1,
        rationale=HOSTILE,
        contributing_signals=(signal.event_id,),
        source_agent=HOSTILE[:100],
    )
    path = written(tmp_path / "firm.db", signal, decision)
    for forward in (False, True):
        text = explained(path, decision.event_id, forward=forward).text()
        assert all(line.isprintable() for line in text.split("\n"))
        assert max(map(len, text.split("\n"))) < 400
        assert len(text) < 4_000
    with pytest.raises(UnknownReference) as refused:
        explained(path, HOSTILE[:900])
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "fields",
    [
        {"event_type": "fill", "filled_quantity": "x", "fill_price": [], "symbol": 7, "side": {}},
        {"event_type": "decision", "contributing_signals": 7, "action": None, "quantity": 10**30},
        {
            "event_type": "validated_decision",
            "approved": "yes",
            "risk_metrics": {"a": "b"},
            "adjusted_quantity": {},
        },
        {"event_type": "order", "order_id": ["a", ["b"], {"c": 1}], "decision_id": {"x": 1}},
        {"event_type": "round_released", "round_id": "r", "votes": 7, "roster": None},
        {"event_type": {"a": 1}, "event_class": ["x"], "causation_id": 7, "round_id": []},
        {"event_type": "run_started", "settings": 3, "order_id": True},
    ],
)
def test_events_of_any_form_are_explained(tmp_path: Path, fields: dict[str, Any]) -> None:
    odd = event("odd", **{"event_type": "note", **fields})
    with SqliteJournal(tmp_path / "firm.db") as journal:
        journal.write([event("plain"), odd, event("after", causation_id="odd")])
    for ref in ("odd", "after", "plain", "#2"):
        assert explained(tmp_path / "firm.db", ref).text()
        assert explained(tmp_path / "firm.db", ref, forward=True).text()


# -- several desks -----------------------------------------------------------------------------------


def a_chain_over_desks(folder: Path) -> tuple[Path, Path]:
    """The floor has the bar and the decision; the street has a copy of the decision, and the order."""
    floor, street = DeskJournal(folder, "floor"), DeskJournal(folder, "street")
    decision = event("d-1", "decision", causation_id="bar-1", action="buy", quantity=1, symbol="ES")
    floor.make(event("bar-1", "market_data", symbol="ES", price=1.0), decision)
    street.make(event("before", "note")).take(floor, decision)
    street.make(
        event("o-ev", "order", causation_id="d-1", order_id="o-1", symbol="ES", side="buy", quantity=1)
    )
    return close(floor, street)[0], street.path


def test_a_chain_is_followed_to_another_desk(tmp_path: Path) -> None:
    floor, street = a_chain_over_desks(tmp_path)
    alone = explained(street, "o-1")
    assert [(step.event_id, step.desk) for step in alone.chain] == [("d-1", "floor"), ("o-ev", None)]
    assert any("desk floor made decision #2" in said for said in alone.unknown)
    both = explained(street, "o-1", journals=[floor])
    assert [(step.event_id, step.desk, step.position) for step in both.chain] == [
        ("bar-1", "floor", 1),
        ("d-1", "floor", 2),
        ("o-ev", None, 3),
    ]
    assert "#1 of desk floor" in both.text()
    came = explained(floor, "bar-1", forward=True, journals=[street]).came_of
    assert came is not None
    assert [(step.event_id, step.desk) for step in came] == [("d-1", None), ("o-ev", "street")]


def test_a_journal_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    floor, street = a_chain_over_desks(tmp_path)
    assert len(explained(street, "o-1", journals=[floor, street, floor]).chain) == 3


# -- a journal that grows ----------------------------------------------------------------------------


def test_what_is_written_later_is_found_by_an_open_lineage(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    with SqliteJournal(path) as journal:
        journal.write([event("e-0")])
        with Lineage(path) as lineage, Lineage(path) as other:
            for number in range(1, 40):
                journal.write([event(f"e-{number}", causation_id=f"e-{number - 1}")])
                for one in (lineage, other):
                    assert len(one.explain(f"e-{number}").chain) == number + 1
                if number % 10 == 0:
                    lineage.index()


def test_a_firm_is_explained_while_it_trades(tmp_path: Path) -> None:
    path = tmp_path / "firm.db"
    seen: list[list[str]] = []

    async def run() -> None:
        kept = PersistenceConfig(path=path, socket=False, levels={"market_data": "process"})
        async with EventBus(signal_timeout=0.05, barrier_timeout=5.0, persistence_config=kept) as bus:
            Firm(bus)
            for symbol in ("AAPL", "ES", "ZN"):
                await trade(bus, [symbol])
                with Lineage(path) as lineage:
                    seen.append(types(lineage.explain(f"o-{len(seen) + 1}")))

    run_virtual(run())
    assert seen == [WHOLE] * 3


def test_an_event_with_a_header_beside_it_is_found_by_that(tmp_path: Path) -> None:
    beside = Header(event_id="theirs", event_type="theirs", causation_id="e-1", round_id="r-1")
    with SqliteJournal(tmp_path / "firm.db") as journal:
        journal.write([event("e-1"), Entry("theirs", b'{"x": 1}', wall_ns=NOON_NS, header=beside)])
    assert [step.event_id for step in explained(tmp_path / "firm.db", "theirs").chain] == ["e-1", "theirs"]
