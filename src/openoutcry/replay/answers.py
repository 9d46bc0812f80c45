"""Answers from outside, as they came on the day: after as long a time, and nobody is asked."""

import asyncio
import importlib
from collections.abc import Callable
from typing import Any

import msgspec

from openoutcry.errors import ReplayError
from openoutcry.events import AnswerRecorded
from openoutcry.replay.day import Day
from openoutcry.runtime.api.answers import Keep, Question
from openoutcry.runtime.delivery.causation import Cause
from openoutcry.units import NS_PER_S


class PlayedAnswers:
    """What is behind `bus.recorded` in a replay: it never calls."""

    def __init__(self, day: Day) -> None:
        self._day = day

    async def ask(self, asked: Question, cause: Cause | None, call: Callable[[], Any], keep: Keep) -> Any:
        """Return or raise what was answered on the day. Raises `ReplayError` where that is not known."""
        del call, keep
        found = self._day.answers.get(asked)
        if found is None:
            self.is_unknown(asked, cause)
            raise ReplayError(
                f"{asked.subscription or 'the main program'} asked {asked.name!r} for "
                f"{asked.cause_id or 'itself'}, and had not on that day: the record has no answer"
            )
        if found.ended == "cancelled":
            await asyncio.get_running_loop().create_future()  # whoever waited has given up
        await asyncio.sleep(found.took_ns / NS_PER_S)
        if found.ended == "raised":
            raise _error_of(found)
        if found.answer is None:
            raise ReplayError(
                f"of the answer of {asked.name!r} to {asked.subscription} only the hash was kept, so a "
                "replay has none; leave out keep='hash', or keep answers small"
            )
        return msgspec.json.decode(found.answer)

    def is_unknown(self, asked: Question, cause: Cause | None) -> None:
        """Something is asked that was not asked on the day."""


def _error_of(found: AnswerRecorded) -> Exception:
    """Return what was raised, as far as it can be made again."""
    module, _, name = found.error_type.partition(":")
    try:
        cls: Any = importlib.import_module(module)
        for part in name.split("."):
            cls = getattr(cls, part)
        if issubclass(cls, Exception):
            made: Exception = cls(found.error)
            return made
    except Exception:  # noqa: BLE001 - a class that is not there, or is made otherwise
        return ReplayError(f"{found.error_type}: {found.error}")
    return ReplayError(f"{found.error_type}: {found.error}")
