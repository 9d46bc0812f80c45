"""Answers from outside are recorded: by whom, for what, how long it took, and what came of it."""

import asyncio
import re
from typing import Any

import pytest
from bus_helpers import a_decision, a_tick, an_order, virtual
from durable_kit import Disk, Faulty, a_bus, written

from openoutcry import AnswerRecorded, Event, EventBus, InvalidEvent
from openoutcry.errors import ConfigError, JournalFull
from openoutcry.journals import MemoryJournal
from openoutcry.ports import Journal
from openoutcry.runtime.api.answers import ANSWER_BYTES_MAX

MS = 1_000_000


def answers(journal: Journal) -> list[AnswerRecorded]:
    return [event for event in written(journal) if isinstance(event, AnswerRecorded)]


async def slowly(answer: Any, seconds: float = 0.25) -> Any:
    await asyncio.sleep(seconds)
    return answer


@virtual
async def test_an_answer_is_recorded_with_who_asked_for_which_event(disk: Disk):
    said = {"view": "long", "size": [1, 2.5, None, True]}
    got: list[Any] = []
    async with a_bus(disk.journal, record="rounds") as bus:

        async def on_order(event: Event) -> None:
            got.append(await bus.recorded("model", lambda: slowly(said)))
            got.append(await bus.recorded("model", lambda: "again"))
            got.append(await bus.recorded("broker", lambda: slowly(None, 0.5)))

        bus.subscribe("order", on_order, name="llm")
        order = an_order(round_id="r-1")
        await bus.publish(order)
        await bus.join()
        await bus.flush()
        first, second, third = answers(disk.journal)
    assert got == [said, "again", None]
    assert (first.name, first.subscription, first.causation_id) == ("model", "llm", order.event_id)
    assert (first.correlation_id, first.round_id) == (order.event_id, "r-1")
    assert (first.ended, first.took_ns, first.ordinal) == ("returned", 250 * MS, 1)
    assert first.answer == '{"view":"long","size":[1,2.5,null,true]}'
    assert re.fullmatch("[0-9a-f]{32}", first.answer_hash)
    assert (second.ordinal, second.answer, second.took_ns) == (2, '"again"', 0)
    assert (third.name, third.ordinal, third.answer) == ("broker", 1, "null")


@virtual
async def test_what_asking_raises_goes_through_and_is_recorded(disk: Disk):
    async with a_bus(disk.journal, record="rounds") as bus:
        with pytest.raises(ZeroDivisionError):
            await bus.recorded("model", lambda: 1 // 0)
        await bus.flush()
        (found,) = answers(disk.journal)
    assert (found.ended, found.answer, found.subscription, found.causation_id) == ("raised", None, "", None)
    assert found.error_type == "builtins:ZeroDivisionError"
    assert "by zero" in found.error


@virtual
async def test_a_question_that_is_cancelled_is_recorded_as_such(disk: Disk):
    async with a_bus(disk.journal, record="rounds") as bus:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.125):
                await bus.recorded("model", lambda: slowly("too late", 60.0))
        await bus.flush()
        (found,) = answers(disk.journal)
    assert (found.ended, found.took_ns, found.answer) == ("cancelled", 125 * MS, None)


@virtual
async def test_the_answer_is_in_the_journal_with_what_was_published_because_of_it(disk: Disk):
    found: list[str | None] = []
    async with a_bus(disk.journal, record="rounds") as bus:

        async def on_order(event: Event) -> None:
            await bus.recorded("model", lambda: "yes")
            await bus.publish(a_decision())
            found.extend(one.answer for one in answers(disk.journal))

        bus.subscribe("order", on_order, name="llm")
        await bus.publish(an_order())
        await bus.join()
    assert found == ['"yes"']


@virtual
async def test_of_a_tick_and_of_tasks_that_a_handler_starts_it_is_known_too_what_was_asked(disk: Disk):
    async with a_bus(disk.journal, record="rounds") as bus:

        async def ask(number: int) -> None:
            await bus.recorded("model", lambda: slowly(number, 0.1 * (number + 1)))

        async def on_tick(event: Event) -> None:
            await asyncio.gather(*map(ask, range(3)))

        bus.subscribe("market_data", on_tick, name="llm")
        tick = a_tick()
        await bus.publish(tick)
        await bus.join()
        await bus.flush()
        found = answers(disk.journal)
    assert [(one.causation_id, one.subscription, one.ordinal, one.answer) for one in found] == [
        (tick.event_id, "llm", 1, "0"),
        (tick.event_id, "llm", 2, "1"),
        (tick.event_id, "llm", 3, "2"),
    ]


@virtual
async def test_a_hash_alone_is_kept_where_that_is_asked_for_or_the_answer_is_large():
    journal = MemoryJournal()
    async with a_bus(journal, record="rounds") as bus:
        assert await bus.recorded("model", lambda: (1, 2), keep="hash") == (1, 2)
        large = "x" * (ANSWER_BYTES_MAX + 1)
        assert await bus.recorded("model", lambda: large) == large
        await bus.flush()
    assert [(one.answer, len(one.answer_hash)) for one in answers(journal)] == [(None, 32), (None, 32)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((1, 2), r"it is \(1, 2\)"),
        ({"a": {1: 2}}, r"\['a'\]"),
        ([float("nan")], r"\[0\]"),
        (object(), "object"),
        ("\ud800", "surrogates"),
    ],
)
@virtual
async def test_an_answer_that_a_replay_would_not_get_equal_is_refused(answer: object, said: str):
    async with EventBus() as bus:
        with pytest.raises(InvalidEvent, match=said) as caught:
            await bus.recorded("model", lambda: answer)
        assert "the answer of 'model' would not come back from JSON equal" in str(caught.value)
        assert "keep='hash'" in str(caught.value)


@virtual
async def test_a_question_that_cannot_be_asked_is_an_error_and_starts_nothing():
    async with EventBus() as bus:
        with pytest.raises(ConfigError, match="give a function that asks"):
            await bus.recorded("model", slowly("x"))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="name what is asked"):
            await bus.recorded("", lambda: 1)
        with pytest.raises(ConfigError, match="keep is 'all'"):
            await bus.recorded("model", lambda: 1, keep="all")  # type: ignore[arg-type]


@virtual
async def test_nothing_is_recorded_without_a_journal_or_where_that_is_off():
    journal = MemoryJournal()
    async with a_bus(journal, record="off") as bus:
        assert await bus.recorded("model", lambda: 7) == 7
        await bus.flush()
    assert answers(journal) == []
    async with EventBus() as bus:
        assert await bus.recorded("model", lambda: slowly(7)) == 7


@virtual
async def test_an_answer_that_a_full_disk_refuses_is_written_when_there_is_room():
    journal = Faulty()
    async with a_bus(journal, record="rounds") as bus:
        await bus.flush()
        journal.fail_next("write", JournalFull("no room"))
        await bus.recorded("model", lambda: 1)
        with pytest.raises(JournalFull):
            await bus.publish(an_order())
        await bus.recorded("model", lambda: 2)
        await bus.flush()
        assert [(one.answer, one.ordinal) for one in answers(journal)] == [("1", 1), ("2", 2)]
    assert len({one.event_id for one in answers(journal)}) == 2


@virtual
async def test_every_life_of_a_journal_numbers_its_answers_anew_under_ids_of_its_own(disk: Disk):
    for _ in range(2):
        async with a_bus(disk.journal, record="rounds") as bus:
            await bus.recorded("model", lambda: 1)
            await bus.flush()
    found = answers(disk.journal)
    assert [one.ordinal for one in found] == [1, 1]
    assert len({one.event_id for one in found}) == 2
