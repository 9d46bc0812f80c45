"""What a name took when it handled something decides what it remembers, also where the class decides (CONTRACT 32)."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from bus_helpers import a_decision, an_order, virtual
from durable_kit import Disk, a_bus, turns

from openoutcry import Event, EventBus, Memory, RestoreFailed, register_event
from openoutcry.config import RetryPolicy
from openoutcry.journals import MemoryJournal
from openoutcry.runtime.durability import taken as taken_module
from openoutcry.runtime.durability.taken import Taken, given_up, is_as_before, what_is_taken


@register_event
@dataclass
class TakenMemo:
    """A class whose instances may have any type."""

    event_id: str
    event_type: str = "taken_memo"


@register_event
@dataclass
class TakenNote:
    """Another one."""

    event_id: str
    event_type: str = "taken_note"


class TakenReport(Event):
    """A class of events with a type, of which there are others with another."""

    event_type: str = "taken_report"


class TakenDailyReport(TakenReport):
    """Such a one."""

    event_type: str = "taken_daily_report"


async def a_life(journal: Any, types: Any, life: int, memory: Any = None) -> tuple[list[str], list[str]]:
    """Publish one event of each kind; return what was folded and, after that, what is known at the end."""
    seen: list[str] = []

    def handle(event: Any) -> None:
        seen.append(event.event_id)

    async with a_bus(journal) as bus:
        subscription = bus.subscribe(types, handle, name="book", memory=memory or Memory(handle))
        await subscription.ready()
        folded = list(seen)
        await bus.publish_many(
            [
                TakenMemo(f"memo-{life}"),
                TakenNote(f"note-{life}"),
                an_order(event_id=f"order-{life}"),
                TakenDailyReport(event_id=f"daily-{life}"),
            ]
        )
        await bus.join()
        return folded, seen


@virtual
async def test_a_class_whose_types_vary_is_remembered_for_the_time_in_which_it_was_taken():
    journal, expected = MemoryJournal(), list[str]()
    lives = (
        [TakenMemo],
        [TakenMemo, "order"],
        [TakenNote],
        "*",
        [TakenMemo, "*"],
        [TakenMemo],
        [TakenMemo, TakenNote],
        TakenReport,
        "order",
        Event,
        "order",
    )
    for life, types in enumerate(lives):
        folded, handled = await a_life(journal, types, life)
        assert (life, folded) == (life, expected)
        expected = handled


@virtual
async def test_a_class_that_is_not_known_any_more_is_never_left_out_in_silence(monkeypatch):
    journal = MemoryJournal()
    _, handled = await a_life(journal, TakenReport, 1)
    real = taken_module._name

    def renamed(cls: type) -> str:
        return "class TakenSummary" if cls is TakenReport else real(cls)

    monkeypatch.setattr(taken_module, "_name", renamed)
    with pytest.raises(
        RestoreFailed, match="may be of what it took by class TakenReport, which is not known"
    ):
        await a_life(journal, "decision", 2)
    monkeypatch.undo()
    folded, _ = await a_life(journal, "decision", 3)
    assert folded == handled


@virtual
async def test_what_an_earlier_version_saved_of_such_a_class_is_what_is_taken_now(monkeypatch):
    journal = MemoryJournal()
    with monkeypatch.context() as earlier:
        earlier.setattr(taken_module, "_of_class", lambda cls: {"*"})
        _, handled = await a_life(journal, TakenMemo, 1)
    folded, handled = await a_life(journal, TakenMemo, 2)
    assert folded == ["memo-1"]
    folded, _ = await a_life(journal, "order", 3)
    assert folded == handled


def test_what_is_taken_names_classes_only_where_the_type_does_not_decide():
    assert what_is_taken(["fill", TakenDailyReport]) == ("fill", "taken_daily_report")
    assert what_is_taken([TakenMemo]) == ("*", "class TakenMemo")
    assert what_is_taken([TakenReport]) == ("class TakenReport", "taken_daily_report", "taken_report")
    assert what_is_taken([TakenMemo, "*"]) == ("*", "class object")


def test_what_was_given_up_is_told_in_words():
    assert given_up(("*", "class TakenMemo", "fill"), ("fill",)) == ["class TakenMemo"]
    assert given_up(("*", "class object"), ("fill",)) == ["all other types"]
    assert given_up(("fill",), ("*", "class object")) == []


def test_an_earlier_version_did_not_say_by_which_class():
    assert is_as_before(("*", "fill"), ("*", "class TakenMemo", "fill"))
    assert not is_as_before(("*", "class TakenNote"), ("*", "class TakenMemo"))
    assert not is_as_before(("fill",), ("*", "class object"))
    assert Taken(("*",)).varies
    assert not Taken(("*", "class object")).varies
    assert Taken(("*", "class object")).has(an_order())


async def a_burst(journal: Any, life: int, memory: Any = None, **options: Any) -> list[str]:
    """Have a burst of three orders wait before they are handled; return what was handled of it."""
    seen: list[str] = []

    async def handle(event: Any) -> None:
        seen.append(event.event_id)

    async with a_bus(journal) as bus:
        subscription = bus.subscribe("order", handle, name="book", memory=memory, **options)
        await subscription.ready()
        subscription.pause()
        await bus.publish_many([an_order(event_id=f"{life}-{n}") for n in range(3)])
        subscription.resume()
        await bus.join()
    return seen


@pytest.mark.parametrize("options", [{"overflow": "conflate"}, {"supersede": "symbol"}, {"max_age_s": 60.0}])
@virtual
async def test_what_a_name_may_have_let_go_is_not_folded_when_it_lets_nothing_go_any_more(options, caplog):
    journal, folded = MemoryJournal(), list[str]()

    def fold(event: Any) -> None:
        folded.append(event.event_id)

    await a_burst(journal, 1, **options)
    with pytest.raises(RestoreFailed, match=r"position 1 \(order\) may have been let go: it conflated"):
        await a_burst(journal, 2, Memory(fold))
    assert folded == []
    handled = await a_burst(journal, 3, Memory(fold, on_missing="warn"))
    assert (
        "begins without 3 events that it had handled: position 1 (order) may have been let go" in caplog.text
    )
    await a_burst(journal, 4, Memory(fold, on_missing="warn"))
    assert folded == handled


@virtual
async def test_what_came_after_a_state_of_a_name_that_let_events_go_is_folded_on_top():
    journal, state = MemoryJournal(), list[str]()
    saves = Memory(save=lambda: ["the newest"], load=state.extend)
    await a_burst(journal, 1, saves, overflow="conflate")
    whole = Memory(lambda event: state.append(event.event_id), lambda: state, state.extend, every=100)
    await a_burst(journal, 2, whole)
    assert state == ["the newest"]


class Stumbling:
    """An agent whose first call for an order waits for a word, and fails."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.word = asyncio.Event()

    async def on_event(self, event: Any) -> None:
        if event.event_type == "order" and not self.word.is_set():
            await self.word.wait()
            raise ValueError("no")
        self.fold(event)

    def fold(self, event: Any) -> None:
        self.seen.append(event.event_id)


async def an_order_that_waits_for_a_retry(bus: EventBus, agent: Stumbling, gives_up: str) -> None:
    """Start, and give up a type while the agent is in a call for an order, which then fails."""
    types, memory = ["order", "fill", "decision"], Memory(agent.fold)
    bus.subscribe(types, agent.on_event, name="book", memory=memory, retry=RetryPolicy(first_s=20))
    await bus.start()
    await bus.publish(an_order(event_id="stumbled"))
    await turns()
    bus.unsubscribe(gives_up, agent.on_event)
    agent.word.set()
    await turns()


async def remembered_of(journal: Any) -> list[str]:
    """Return what the next life is handed of the agent's memory."""
    folded: list[str] = []
    async with a_bus(journal) as bus:
        memory = Memory(lambda event: folded.append(event.event_id))
        await bus.subscribe(["order", "fill", "decision"], print, name="book", memory=memory).ready()
    return folded


@virtual
@pytest.mark.parametrize("gives_up", ["order", "fill"])
async def test_what_was_in_a_call_at_a_change_of_types_and_was_withdrawn_is_not_remembered(
    disk: Disk, gives_up: str
):
    bus, agent = a_bus(disk.journal), Stumbling()
    await an_order_that_waits_for_a_retry(bus, agent, gives_up)
    bus.unsubscribe({"order": "fill", "fill": "order"}[gives_up], agent.on_event)
    await bus.publish(a_decision(event_id="decided"))
    await bus.stop()
    assert agent.seen == ["decided"]
    assert await remembered_of(disk.restarted()) == agent.seen


@virtual
@pytest.mark.parametrize("is_taken_again", [False, True])
async def test_what_was_withdrawn_while_the_bus_was_stopped_is_not_remembered(
    disk: Disk, is_taken_again: bool
):
    bus, agent = a_bus(disk.journal), Stumbling()
    await an_order_that_waits_for_a_retry(bus, agent, "fill")
    await bus.stop()
    bus.unsubscribe("order", agent.on_event)
    if is_taken_again:
        bus.subscribe("order", agent.on_event)
    async with bus:
        await bus.publish(a_decision(event_id="decided"))
        await bus.join()
    assert agent.seen == ["decided"]
    assert await remembered_of(disk.restarted()) == agent.seen


@virtual
async def test_what_was_in_a_call_at_changes_of_types_is_remembered_if_a_retry_has_handled_it(disk: Disk):
    bus, agent = a_bus(disk.journal), Stumbling()
    await an_order_that_waits_for_a_retry(bus, agent, "order")
    bus.subscribe("risk_alert", agent.on_event)
    await bus.join()
    await bus.stop()
    assert agent.seen == ["stumbled"]
    assert await remembered_of(disk.restarted()) == agent.seen
