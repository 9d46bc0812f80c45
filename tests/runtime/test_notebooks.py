"""A notebook's cell that is run again replaces its handler; nothing that was accepted is lost."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from bus_helpers import a_kill, an_order, assert_settled, ticks, virtual
from durable_kit import Named, a_bus

from openoutcry import Event, EventBus, MarketDataEvent, Memory, OrderEvent, SubscriptionError
from openoutcry.journals import MemoryJournal

CELL = """
@bus.on{options}
{kind}def momentum(event: {event}):
    acted.append((VERSION, event.price))
{more}
"""
AGAIN = "momentum was defined again: from now on the new function handles its events"


class Notebook:
    """Runs cells as a notebook does: in one namespace, `__main__`, which has no file."""

    def __init__(self, bus: EventBus, **names: Any) -> None:
        self.acted: list[tuple[int, float]] = []
        self.names = {
            "bus": bus,
            "acted": self.acted,
            "__name__": "__main__",
            "MarketDataEvent": MarketDataEvent,
            "OrderEvent": OrderEvent,
            **names,
        }

    def run(
        self,
        version: int,
        *,
        options: str = "",
        kind: str = "async ",
        event: str = "MarketDataEvent",
        more: str = "",
    ) -> None:
        cell = CELL.format(options=options, kind=kind, event=event, more=more)
        exec(cell, self.names | {"VERSION": version})


@virtual
@pytest.mark.parametrize("kinds", [("async ", "async "), ("async ", ""), ("", "async "), ("", "")])
async def test_the_handler_of_a_cell_that_is_run_again_is_replaced_with_a_warning(kinds, caplog):
    async with EventBus() as bus:
        notebook = Notebook(bus)
        notebook.run(1, kind=kinds[0])
        await bus.publish_many(ticks(3))
        await bus.join()
        with pytest.warns(UserWarning, match=AGAIN):
            notebook.run(2, kind=kinds[1])
        assert AGAIN in caplog.text
        await bus.publish_many(ticks(2, first=4))
        await bus.join()
        assert [s.name for s in bus.subscriptions] == ["momentum"]
        assert notebook.acted == [(1, 1.0), (1, 2.0), (1, 3.0), (2, 4.0), (2, 5.0)]
        assert_settled(bus)


@virtual
async def test_what_waits_goes_to_the_new_function_and_a_call_that_has_begun_to_the_old_one():
    go_on = asyncio.Event()
    async with EventBus() as bus:
        notebook = Notebook(bus, go_on=go_on)
        for version in (1, 2):
            notebook.names["VERSION"] = version
            if version == 2:
                await bus.publish_many(ticks(40))
                await asyncio.sleep(1)
            cell = (
                "@bus.on\nasync def slow(event: MarketDataEvent):\n    version = VERSION\n"
                "    await go_on.wait()\n    acted.append((version, event.price))\n"
            )
            if version == 1:
                exec(cell, dict(notebook.names))
            else:
                with pytest.warns(UserWarning, match="slow was defined again"):
                    exec(cell, dict(notebook.names))
        go_on.set()
        await bus.join()
        assert notebook.acted == [(1, 1.0), *((2, float(n)) for n in range(2, 41))]
        assert_settled(bus)


@virtual
async def test_the_cursor_and_the_dead_letters_belong_to_the_name():
    journal = MemoryJournal()
    async with a_bus(journal, levels={"market_data": "process"}) as bus:
        notebook = Notebook(bus)
        notebook.run(1, options="(retry=False)", more="    raise ValueError")
        await bus.publish_many(ticks(2))
        await bus.join()
        assert len(bus.dead_letters("momentum")) == 2
        with pytest.warns(UserWarning, match=AGAIN):
            notebook.run(2, options="(retry=False)")
        bus.admin.redrive("momentum")
        await bus.join()
        assert notebook.acted[-2:] == [(2, 1.0), (2, 2.0)]
        assert bus.dead_letters("momentum") == []


@virtual
async def test_the_types_are_those_of_the_new_run_and_kill_switches_reach_it():
    async with EventBus() as bus:
        notebook = Notebook(bus, KillSwitchEvent=type(a_kill()))
        notebook.run(1)
        with pytest.warns(UserWarning, match=AGAIN):
            notebook.run(2, event="KillSwitchEvent", more="", options="")
        assert bus.subscription("momentum").types == ("KillSwitchEvent",)
        await bus.publish_many(ticks(2))
        await bus.join()
        assert notebook.acted == []


@virtual
async def test_a_cell_with_other_options_is_refused_and_can_be_run_after_unsubscribing():
    async with EventBus() as bus:
        notebook = Notebook(bus)
        notebook.run(1, options="(timeout_s=5)")
        with pytest.raises(
            SubscriptionError, match=r"earlier run of this cell .*timeout_s was 5.*unsubscribe"
        ):
            notebook.run(2)

        exec("async def momentum(event): ...", notebook.names)
        bus.unsubscribe(MarketDataEvent, notebook.names["momentum"])
        notebook.run(2)
        assert len(bus.subscriptions) == 1


@virtual
async def test_functions_of_a_loop_of_explicit_names_and_lambdas_stay_apart():
    async with EventBus() as bus:
        names: dict[str, Any] = {"bus": bus, "__name__": "__main__", "Tick": MarketDataEvent}
        exec("for n in range(3):\n    @bus.on\n    async def of_loop(e: Tick): ...\n", names)
        exec("@bus.on('*', name='a')\nasync def same(e): ...\n", names)
        exec("@bus.on('*', name='b')\nasync def same(e): ...\n", names)
        exec("bus.subscribe('*', lambda e: 1)\nbus.subscribe('*', lambda e: 2)", names)
        exec("def make():\n    @bus.on('*')\n    def inner(e): ...\nmake()", names)
        exec("def make():\n    @bus.on('*')\n    def inner(e): ...\nmake()", names)
        wanted = ["of_loop", "of_loop#2", "of_loop#3", "a", "b", "<lambda>", "<lambda>#2"]
        assert [s.name for s in bus.subscriptions] == [*wanted, "make.inner", "make.inner#2"]


@virtual
@pytest.mark.parametrize("names", [{"__name__": "firm"}, {"__name__": "__main__", "__file__": "firm.py"}])
async def test_in_a_program_two_functions_of_one_name_are_two_subscriptions(names):
    async with EventBus() as bus:
        for _ in range(2):
            exec("@bus.on('*')\nasync def momentum(event): ...", {"bus": bus} | names)
        assert [s.name for s in bus.subscriptions] == ["momentum", "momentum#2"]


def test_at_a_prompt_of_ipython_a_program_that_was_run_before_makes_no_difference():
    bus = EventBus()
    names = {"bus": bus, "__name__": "__main__", "__file__": "x.py", "get_ipython": object()}
    exec("@bus.on('*')\nasync def momentum(event): ...", names)
    with pytest.warns(UserWarning, match="defined again"):
        exec("@bus.on('*')\nasync def momentum(event): ...", names)
    assert len(bus.subscriptions) == 1


def test_the_warning_is_seen_at_a_real_prompt():
    lines = (
        "from openoutcry import EventBus\nbus = EventBus()\n"
        + "@bus.on('fill')\ndef momentum(event): pass\n\n" * 2
        + "print([s.name for s in bus.subscriptions])\n"
    )
    done = subprocess.run(
        [sys.executable, "-i", "-q"], input=lines, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['momentum']"
    assert "momentum was defined again" in done.stderr


NEWS = """
class NewsOfACell(Event, kw_only=True):
    event_type: str = "news"
"""


@pytest.mark.parametrize("journaled", [False, True])
@virtual
async def test_who_took_a_class_that_is_defined_again_is_named_once(caplog, journaled: bool):
    async with a_bus(MemoryJournal()) if journaled else EventBus() as bus:
        names: dict[str, Any] = {"__name__": "__main__", "Event": Event}
        exec(NEWS, names)
        desk, audit = Named("desk"), Named("audit")
        bus.subscribe(names["NewsOfACell"], desk.on_event)
        bus.subscribe("news", audit.on_event)
        await bus.publish(names["NewsOfACell"]())
        await bus.join()
        assert "defined again" not in caplog.text
        exec(NEWS, names)
        await bus.publish(names["NewsOfACell"]())
        await bus.publish_many([names["NewsOfACell"](), names["NewsOfACell"]()])
        await bus.join()
        assert (len(desk.handled), len(audit.handled)) == (1, 4)
    [told] = [r.getMessage() for r in caplog.records if "defined again" in r.getMessage()]
    assert "the class NewsOfACell was defined again" in told
    assert "its events: desk.on_event; subscribe again" in told


MEMORY_CELL = """
def fold(event):
    acted.append(("folded", VERSION, event.event_id))

def save():
    return [VERSION, *state]

def load(saved):
    acted.append(("loaded", VERSION, saved))

@bus.on(OrderEvent, memory=Memory(fold, save, load, every=EVERY))
def keeper(event):
    acted.append(("handled", VERSION, event.event_id))
    state.append(event.event_id)
"""


def run_memory_cell(bus: EventBus, version: int, state: list[str], acted: list[Any], every: int = 1) -> None:
    names = {"__name__": "__main__", "bus": bus, "OrderEvent": OrderEvent, "Memory": Memory, "state": state}
    exec(MEMORY_CELL, names | {"acted": acted, "VERSION": version, "EVERY": every})


@virtual
async def test_a_cell_with_a_memory_that_is_run_again_goes_on_with_the_new_functions():
    journal, state, acted = MemoryJournal(), list[str](), list[Any]()
    one, two, three = an_order("1"), an_order("2"), an_order("3")
    async with a_bus(journal) as bus:
        run_memory_cell(bus, 1, state, acted)
        await bus.publish(one)
        await bus.join()
        with pytest.warns(UserWarning, match="keeper was defined again"):
            run_memory_cell(bus, 2, state, acted)
        await bus.publish(two)
        await bus.join()
        with pytest.raises(
            SubscriptionError, match=r"memory was Memory.*its cursor and its memory go with it"
        ):
            run_memory_cell(bus, 3, state, acted, every=7)
        assert acted == [("handled", 1, one.event_id), ("handled", 2, two.event_id)]
    acted.clear()
    bus = a_bus(journal)
    run_memory_cell(bus, 4, state, acted)
    with pytest.warns(UserWarning, match="keeper was defined again"):
        run_memory_cell(bus, 5, state, acted)  # before the start: the newest functions restore
    async with bus:
        await bus.publish(three)
        await bus.join()
    assert acted == [("loaded", 5, [2, one.event_id, two.event_id]), ("handled", 5, three.event_id)]
