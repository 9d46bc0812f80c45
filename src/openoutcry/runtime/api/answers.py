"""Answers from outside: what a model or a broker has said is recorded, so that a replay has it too."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from inspect import iscoroutine
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from openoutcry.errors import ConfigError, InvalidEvent
from openoutcry.events import MAX_BYTES, AnswerRecorded, first_difference
from openoutcry.printable import unwritable
from openoutcry.runtime.api.typed import A
from openoutcry.runtime.delivery.causation import Cause, current
from openoutcry.runtime.delivery.error_log import safe_repr
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.recorder import Recorder

Keep = Literal["answer", "hash"]
ANSWER_BYTES_MAX: Final = MAX_BYTES // 4
"""Of a larger answer the hash alone is kept: as text in an event it may take several times its bytes."""
_ASKED_MOST: Final = 65_536
"""So many events are remembered for which something was asked, to number what is asked for them next."""


class Question(NamedTuple):
    """What tells one question from all others of a run, also when the run is played again.

    Attributes:
        name: What is asked, as the caller has named it.
        subscription: Whose handler asks; empty for a main program.
        cause_id: The id of the event that is being handled; empty for a main program.
        ordinal: The how manieth question of that name it is, of that subscription for that event.

    """

    name: str
    subscription: str
    cause_id: str
    ordinal: int


class Answers(Protocol):
    """Who answers what is asked by `EventBus.recorded`."""

    async def ask(self, asked: Question, cause: Cause | None, call: Callable[[], Any], keep: Keep) -> Any:
        """Return the answer to a question, or raise what asking raises."""
        ...


class LiveAnswers:
    """Asks, and records what comes of it, if anything is recorded at all."""

    def __init__(self, bus: BusState, recorder: Recorder | None) -> None:
        self._bus = bus
        self._recorder = recorder

    async def ask(self, asked: Question, cause: Cause | None, call: Callable[[], Any], keep: Keep) -> Any:
        """Call, and return what comes of it as a replay would have it."""
        began_ns = self._bus.clock.now_ns()
        try:
            answer = call()
            if isinstance(answer, Awaitable):
                answer = await answer
            data = written(asked.name, answer, exactly=keep == "answer")
        except asyncio.CancelledError:
            self._note(asked, cause, began_ns, ended="cancelled")
            raise
        except Exception as error:
            cls = type(error)
            named = f"{cls.__module__}:{cls.__qualname__}"
            self._note(asked, cause, began_ns, ended="raised", error_type=named, error=safe_repr(error))
            raise
        is_kept = keep == "answer" and len(data) <= ANSWER_BYTES_MAX
        digest = blake2b(data, digest_size=16).hexdigest()
        text = data.decode() if is_kept else None
        self._note(asked, cause, began_ns, ended="returned", answer=text, answer_hash=digest)
        return answer

    def _note(self, asked: Question, cause: Cause | None, began_ns: int, **said: Any) -> None:
        recorder, clock = self._recorder, self._bus.clock
        if recorder is None:
            return
        wall_ns, took_ns = clock.wall_ns(), clock.now_ns() - began_ns

        def make(event_id: str) -> AnswerRecorded:
            return AnswerRecorded(
                event_id=event_id,
                timestamp=wall_ns,
                correlation_id=None if cause is None else cause.correlation_id,
                causation_id=None if cause is None else cause.event_id,
                round_id=None if cause is None else cause.round_id,
                name=asked.name,
                subscription=asked.subscription,
                ordinal=asked.ordinal,
                took_ns=took_ns,
                **said,
            )

        recorder.answered(wall_ns, make)


class Outside:
    """What is asked on one bus: finds out who asks, and for which event, and numbers it.

    Attributes:
        answers: Who answers.

    """

    def __init__(self, bus: BusState, answers: Answers) -> None:
        self._bus = bus
        self._counts: OrderedDict[tuple[str, str], dict[str, int]] = OrderedDict()
        self.answers: Answers = answers

    async def ask(self, name: str, call: Callable[[], Awaitable[A] | A], keep: Keep) -> A:
        """Ask; see `EventBus.recorded`."""
        _check(name, call, keep)
        who = current.get()
        cause = None if who is None or who.bus is not self._bus else who.cause()
        who_asks = "" if who is None or cause is None else who.subscription
        cause_id = "" if cause is None else cause.event_id
        counts = self._counts.setdefault((who_asks, cause_id), {})
        self._counts.move_to_end((who_asks, cause_id))
        if len(self._counts) > _ASKED_MOST:
            self._counts.popitem(last=False)
        counts[name] = ordinal = counts.get(name, 0) + 1
        answer: A = await self.answers.ask(Question(name, who_asks, cause_id, ordinal), cause, call, keep)
        return answer


def _check(name: str, call: object, keep: object) -> None:
    """Raise `ConfigError` for what cannot be asked."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"recorded({name!r}, ...): name what is asked by a text, such as 'model'")
    if problem := unwritable(name):
        raise ConfigError(f"recorded({name!r}, ...): {problem}; correct the name")
    if keep not in ("answer", "hash"):
        raise ConfigError(f"keep is {keep!r}; it must be 'answer' or 'hash'")
    if not callable(call):
        if iscoroutine(call):
            call.close()  # it would be warned of as never awaited
        raise ConfigError(
            f"recorded({name!r}, {call!r}): give a function that asks, which a replay does not call, such as "
            "lambda: client.complete(prompt)"
        )


def written(name: str, answer: object, *, exactly: bool) -> bytes:
    """Return an answer as JSON. Raises `InvalidEvent` for one that is not.

    `exactly`: or that would not come back equal, so that a replay would get another one.
    """
    data = b""
    try:
        data = msgspec.json.encode(answer)
        found = first_difference(answer, msgspec.json.decode(data)) if exactly else None
        problem = "" if found is None else f"it{found.path} is {safe_repr(found.before)}"
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        problem = str(error)
    if not problem:
        return data
    raise InvalidEvent(
        f"the answer of {name!r} would not come back from JSON equal: {problem}; return dicts with texts as "
        "keys, lists, texts, finite numbers, booleans and None, or keep its hash alone: "
        "recorded(..., keep='hash')"
    )
