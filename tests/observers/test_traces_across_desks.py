"""`openoutcry traces` at the journals of several desks: together they give one trace."""

import asyncio
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from tests.observers.collector import Collector, collecting

from openoutcry import (
    NO_RETRY,
    DecisionEvent,
    Event,
    EventBus,
    FillEvent,
    Link,
    OrderEvent,
    PersistenceConfig,
)
from openoutcry.cli import main
from openoutcry.links.memory import MemoryTransport
from openoutcry.links.memory_hub import MemoryHub
from openoutcry.observers.spans import span_id, trace_id


def a_desk(folder: Path, hub: MemoryHub, name: str, *imports: str) -> EventBus:
    return EventBus(
        persistence_config=PersistenceConfig(path=folder / f"{name}.db", socket=False),
        link=Link(firm="alpha", desk=name, imports=imports),
        transport=MemoryTransport(hub, name),
    )


def trade(folder: Path) -> dict[str, Event]:
    """A decision and its order on the floor, a fill on the street, which the floor's books refuse."""
    seen: dict[str, Event] = {}

    async def run() -> None:
        hub, filled = MemoryHub(), asyncio.Event()
        floor, street = a_desk(folder, hub, "floor", "fill"), a_desk(folder, hub, "street", "order")

        async def trader(decision: DecisionEvent) -> None:
            order = OrderEvent(order_id="o-1", symbol="ES", side="buy", quantity=1.0, source_agent="trader")
            seen["decision"], seen["order"] = decision, order
            await floor.publish(order)

        async def broker(order: OrderEvent) -> None:
            what: dict[str, Any] = {"order_id": order.order_id, "symbol": order.symbol, "side": order.side}
            seen["fill"] = FillEvent(filled_quantity=1.0, fill_price=1.0, source_agent="exchange", **what)
            await street.publish(seen["fill"])

        async def books(_: FillEvent) -> None:
            filled.set()
            raise ValueError("no account")

        floor.subscribe("decision", trader, name="trader")
        floor.subscribe("fill", books, name="books", retry=NO_RETRY)
        street.subscribe("order", broker, name="broker")
        async with asyncio.timeout(60), floor, street:
            await floor.publish(DecisionEvent(symbol="ES", action="buy", quantity=1.0, source_agent="chief"))
            await filled.wait()
            await floor.join()

    asyncio.run(run())
    return seen


def traced(*paths: Path) -> Collector:
    with collecting() as collector:
        for path in paths:
            result = CliRunner().invoke(
                main, ["traces", str(path), "--otlp", collector.url, "--keep", "100%"]
            )
            assert result.exit_code == 0, result.output
    return collector


def hexed(event_id: str, subscription: str = "") -> str:
    return f"{span_id(event_id, subscription):016x}"


def test_a_chain_that_crosses_desks_is_one_trace_without_a_span_twice(tmp_path: Path) -> None:
    seen = trade(tmp_path)
    collector = traced(tmp_path / "floor.db", tmp_path / "street.db")
    spans = collector.spans
    decision, order, fill = (seen[name] for name in ("decision", "order", "fill"))
    assert {span.trace for span in spans} == {f"{trace_id(decision.event_id):032x}"}
    assert len({span.id for span in spans}) == len(spans)
    assert {span.name: span.parent for span in spans} == {
        "publish decision": "",
        "trader handles decision": hexed(decision.event_id),
        "publish order": hexed(decision.event_id, "trader"),
        "broker handles order": hexed(order.event_id),
        "publish fill": hexed(order.event_id, "broker"),
        "books handles fill": hexed(fill.event_id),
    }


def test_a_handling_says_which_desk_has_made_what_it_handles(tmp_path: Path) -> None:
    trade(tmp_path)
    spans = {span.name: span for span in traced(tmp_path / "street.db").spans}
    assert set(spans) == {"broker handles order", "publish fill"}
    assert spans["broker handles order"].attributes["openoutcry.made_by_desk"] == "floor"
    assert "openoutcry.made_by_desk" not in spans["publish fill"].attributes
