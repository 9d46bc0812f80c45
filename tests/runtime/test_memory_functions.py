"""What may be given as `fold`, `save` and `load`, and what they return (CONTRACT 32, 33)."""

from functools import partial
from typing import Any

import pytest
from bus_helpers import virtual
from durable_kit import a_bus, orders

from openoutcry import EventBusHealthStatus, Memory, RestoreFailed, SubscriptionError
from openoutcry.journals import MemoryJournal


class Agent:
    """With methods of every shape."""

    def fold(self, event: Any) -> None: ...

    def save(self) -> list[str]:
        return []

    def load(self, state: Any) -> None: ...

    async def fold_later(self, event: Any) -> None: ...

    def fold_in_steps(self, event: Any) -> Any:
        yield event


class Later:
    """An object that is called, and has to be awaited."""

    async def __call__(self, *arguments: Any) -> None: ...


async def later_still(*arguments: Any) -> Any:
    yield arguments


AGENT = Agent()


@pytest.mark.parametrize(
    "wrong",
    [
        {"fold": AGENT.fold_later},
        {"fold": AGENT.fold_in_steps},
        {"fold": later_still},
        {"fold": Later()},
        {"fold": partial(Later())},
        {"fold": Agent},
        {"fold": AGENT.save},
        {"fold": Agent.fold},
        {"fold": lambda event, more: None},
        {"fold": lambda *, event: None},
        {"save": Agent.save, "load": AGENT.load},
        {"save": Later(), "load": AGENT.load},
        {"save": AGENT.fold_in_steps, "load": AGENT.load},
        {"save": AGENT.save, "load": Later()},
        {"save": AGENT.save, "load": AGENT.fold_in_steps},
        {"save": AGENT.save, "load": AGENT.save},
        {"save": AGENT.save, "load": Agent.load},
    ],
)
def test_a_function_that_could_do_nothing_when_it_is_called_is_refused(wrong):
    with pytest.raises(SubscriptionError, match=r"it must be a plain function|give a function of that"):
        Memory(**wrong)


def test_whatever_can_be_called_so_is_accepted():
    known: dict[str, int] = {}
    Memory(AGENT.fold, AGENT.save, AGENT.load)
    Memory([].append, lambda: known, known.update)
    Memory(partial(known.__setitem__, "newest"), known.copy, lambda *states: None)


async def later(*_: Any) -> None: ...


async def a_life(journal: Any, memory: Memory) -> Any:
    async with a_bus(journal) as bus:
        subscription = bus.subscribe("order", lambda _: None, name="book", memory=memory)
        await subscription.ready()
        await bus.publish_many(orders(1, first=len(list(journal.read(0, 9)))))
        await bus.join()
        return await bus.check_health()


@pytest.mark.parametrize("what", [lambda given: later([given]), lambda given: iter_of([given])])
@virtual
async def test_what_would_have_to_be_awaited_or_iterated_over_has_not_run_and_is_a_failure(what):
    journal = MemoryJournal()
    await a_life(journal, Memory(lambda event: None))
    with pytest.raises(RestoreFailed, match=r"fold returned a .*, so nothing of it has run"):
        await a_life(journal, Memory(what))
    health = await a_life(journal, Memory(lambda event: None, lambda: what(1), lambda state: None, every=1))
    assert health.status is EventBusHealthStatus.DEGRADED
    assert "save returned a " in health.message
    await a_life(journal, Memory(lambda event: None, lambda: 1, lambda state: None))
    with pytest.raises(RestoreFailed, match=r"load raised .*load returned a .*, so nothing of it has run"):
        await a_life(journal, Memory(lambda event: None, lambda: 1, what))


def iter_of(given: Any) -> Any:
    yield given
