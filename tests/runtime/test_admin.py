"""`bus.admin`: the operators' verbs, and the names they had before."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from bus_helpers import Desk, Failing, a_tick, virtual

from openoutcry import NO_RETRY, EventBus, EventType, NotSubscribed, PersistenceConfig, WrongThread
from openoutcry.errors import OpenOutcryError
from openoutcry.journals import MemoryJournal
from openoutcry.runtime.api.admin import Admin

PUBLIC_NAMES_MAX = 60
MOVED = {
    "redrive": (),
    "drop_dead_letters": (),
    "cursors": (),
    "drop_cursor": ("nobody",),
    "reassign_cursor": ("nobody", "somebody"),
    "recover_journal": (),
}


@virtual
async def test_a_subscription_is_paused_and_resumed_by_its_name():
    desk = Desk()
    async with EventBus() as bus:
        bus.subscribe(EventType.MARKET_DATA, desk.on_event, name="desk")
        assert bus.admin.pause("desk") == "paused"
        await bus.publish(a_tick())
        assert (bus.subscription("desk").paused, desk.handled) == (True, [])
        assert bus.admin.resume("desk") == "idle"
        await bus.join()
        assert len(desk.handled) == 1


@pytest.mark.parametrize("verb", ["pause", "resume", "redrive", "drop_dead_letters"])
@virtual
async def test_a_name_that_nobody_has_is_refused(verb: str):
    async with EventBus() as bus:
        bus.subscribe(EventType.FILL, Desk().on_event, name="desk")
        with pytest.raises(NotSubscribed, match="there is no subscription 'dask'; there are"):
            getattr(bus.admin, verb)("dask")


async def _answer(result: Any) -> Any:
    """Return the result, or the error, of a verb that may be a coroutine."""
    try:
        return await result if inspect.isawaitable(result) else result
    except OpenOutcryError as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", MOVED)
@virtual
async def test_a_verb_still_has_its_old_name_which_warns_and_does_the_same(name: str):
    def a_bus() -> EventBus:
        bus = EventBus(persistence_config=PersistenceConfig(), journal=MemoryJournal())
        bus.subscribe(EventType.MARKET_DATA, Failing().on_event, name="failing", retry=NO_RETRY)
        return bus

    async with a_bus() as old, a_bus() as new:
        for bus in (old, new):
            await bus.publish(a_tick(), level="process")
            await bus.join()
        with pytest.warns(
            DeprecationWarning, match=rf"^bus\.{name} is deprecated: call bus\.admin\.{name}$"
        ) as seen:
            called = getattr(old, name)(*MOVED[name])
        assert [warning.filename for warning in seen] == [__file__]
        answers = [await _answer(called), await _answer(getattr(new.admin, name)(*MOVED[name]))]
    assert answers[0] == answers[1]
    method = inspect.getattr_static(EventBus, name)
    assert method.__doc__ == f"Deprecated: call `bus.admin.{name}`."
    assert inspect.signature(method) == inspect.signature(getattr(Admin, name))


def test_every_verb_of_the_operator_can_be_asked_at_the_socket_but_for_recovery(tmp_path):
    verbs = {name for name in vars(Admin) if not name.startswith("_")}
    server = EventBus()._lifecycle.control._new_server(tmp_path / "firm.sock", is_own=True)
    assert verbs - {"recover_journal", "seat_lost"} <= set(server.verbs)  # the pulse says that of the seat


@virtual
async def test_the_verbs_are_for_the_thread_of_the_bus_alone():
    async with EventBus() as bus:
        bus.subscribe(EventType.FILL, Desk().on_event, name="desk")
        for verb, arguments in {"redrive": (), "pause": ("desk",), "resume": ("desk",)}.items():
            with ThreadPoolExecutor(1) as pool, pytest.raises(WrongThread, match=f"^{verb} was called"):
                pool.submit(getattr(bus.admin, verb), *arguments).result()


def test_a_bus_is_one_class_with_few_names():
    names = {name for name in dir(EventBus()) if not name.startswith("_")}
    assert EventBus.__bases__ == (object,)
    assert len(names) <= PUBLIC_NAMES_MAX, sorted(names)


def test_help_spells_out_the_options_of_subscribe():
    parameters = inspect.signature(EventBus.subscribe).parameters
    assert list(parameters)[:5] == ["self", "event_type", "handler", "name", "owner"]
    assert {"overflow", "timeout_s", "retry", "breaker", "durable", "supersede"} < set(parameters)
    assert parameters["concurrency"].default == 1
    assert parameters["timeout_s"].annotation == float | None
    for name in list(parameters)[1:]:
        assert f"{name}: " in (EventBus.subscribe.__doc__ or ""), f"{name} is documented"


def test_an_option_that_does_not_exist_is_named():
    with pytest.raises(TypeError, match=r"^subscribe\(\) got an unexpected keyword argument 'tiemout_s'$"):
        EventBus().subscribe(EventType.FILL, print, tiemout_s=1)  # type: ignore[call-overload]
