"""What an operator does on the page: forwarded to the firm, answered in its words, and never done later."""

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec

from openoutcry.dashboard.access import Session
from openoutcry.dashboard.journal_file import JournalFile
from openoutcry.dashboard.letters import (
    MEMORY_PAGE,
    MEMORY_SHOWN,
    Ids,
    Letters,
    buried,
    ids_in_journal,
    ids_in_memory,
    remembered,
)
from openoutcry.dashboard.refusals import Refused
from openoutcry.runtime.control.watcher import Watcher

VIA: Final = "page"
LETTERS_AT_ONCE: Final = 2_000
"""A request at the control socket has a bounded size."""
_STATUSES: Final = {"NotAuthorised": 403, "ConfigError": 400, "TimeoutError": 503, "ConnectionError": 503}
"""What the class of the firm's error is answered with; others with 409."""
_Body = TypeVar("_Body")


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of a request."""


class Halt(_Strict, kw_only=True):
    """What is to stop, and why."""

    scope: str = "firm"
    reason: str = "halted by operator"


class Release(_Strict, kw_only=True):
    """Which kill switches are released, why, and under which of the names that may release."""

    reason: str
    ids: list[str] | None = None
    scope: str | None = None
    by: str | None = None


class Named(_Strict, kw_only=True):
    """A subscription."""

    subscription: str


class Chosen(_Strict, kw_only=True):
    """Dead letters of a subscription: all, those with an error, or some by their ids; or the oldest alone."""

    subscription: str
    error: str | None = None
    letter_ids: list[int] | None = None
    one: bool = False


class Dropped(Chosen, kw_only=True):
    """Dead letters that are given up, and why."""

    reason: str


def read_body(body: bytes, kind: type[_Body]) -> _Body:
    """Return what a request says. Refused with 400 where it is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as problem:
        raise Refused(400, f"this request cannot be understood: {problem}") from problem


class Acts:
    """Does what is asked, in the firm, in the name of whoever is logged in."""

    def __init__(self, watcher: Watcher, file: JournalFile | None) -> None:
        self._watcher = watcher
        self._file = file

    async def halt(self, session: Session, body: bytes) -> Any:
        """Publish a kill switch; return who has heard it so far."""
        asked = read_body(body, Halt)
        return await self._ask("halt", session.name, scope=asked.scope, reason=asked.reason)

    async def release(self, session: Session, body: bytes) -> Any:
        """Release kill switches; return how many."""
        asked = read_body(body, Release)
        if not asked.reason.strip():
            raise Refused(400, "say why the kill switch is released: the reason is empty")
        which = {"ids": asked.ids, "scope": asked.scope, "reason": asked.reason}
        return await self._ask("release", asked.by or self._releaser(session), **which)

    def _releaser(self, session: Session) -> str | None:
        """Return the name of the login if it may release; None leaves it to the firm's `control_releaser`."""
        shape = self._watcher.shape
        return session.name if shape is not None and session.name in shape.releasers else None

    async def pause(self, session: Session, body: bytes) -> Any:
        """Pause a subscription; return its state."""
        return await self._ask("pause", session.name, subscription=read_body(body, Named).subscription)

    async def resume(self, session: Session, body: bytes) -> Any:
        """Resume a subscription; return its state."""
        return await self._ask("resume", session.name, subscription=read_body(body, Named).subscription)

    async def redrive(self, session: Session, body: bytes) -> Any:
        """Have dead letters delivered again; return how many."""
        return await self._with_letters("redrive", session, read_body(body, Chosen))

    async def drop(self, session: Session, body: bytes) -> Any:
        """Give dead letters up; return how many."""
        asked = read_body(body, Dropped)
        if not asked.reason.strip():
            raise Refused(400, "say why the letters are given up: the reason is empty")
        return await self._with_letters("drop_dead_letters", session, asked, reason=asked.reason)

    async def letters(self, subscription: str | None = None) -> Letters:
        """Return the dead letters, or those of one name, grouped: as many as there is time for."""
        if self._file is not None:
            return await self._file.look(lambda reader, deadline: buried(reader, deadline, subscription))
        pages: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None and len(pages) * MEMORY_PAGE < MEMORY_SHOWN:
            pages.append(await self._page(subscription, after))
            after = pages[-1]["next_after"]
        return remembered(pages)

    async def _page(self, subscription: str | None, after: int) -> dict[str, Any]:
        """Return the next letters that the bus keeps in memory."""
        which = {"subscription": subscription, "limit": MEMORY_PAGE, "after": after}
        found: dict[str, Any] = await self._ask_plainly("dead_letters", **which)
        return found

    async def _with_letters(self, verb: str, session: Session, asked: Chosen, **more: Any) -> int:
        """Do something with all letters that are meant, some at a time; return with how many it was done."""
        ids = asked.letter_ids if asked.letter_ids is not None else await self._meant(asked)
        if not ids:
            raise Refused(409, f"there is no such dead letter of {asked.subscription!r} any more")
        done = 0
        for some in _pieces(ids[:1] if asked.one else ids):
            which = {"subscription": asked.subscription, "letter_ids": some}
            try:
                done += await self._ask(verb, session.name, **which, **more)
            except Refused as problem:
                if not done:
                    raise
                said = f"after {done:,} of {len(ids):,} letters: {problem}"
                raise Refused(problem.status, said) from problem
        return done

    async def _meant(self, asked: Chosen) -> list[int]:
        """Return the letters of a name that are there now, with the error that is asked for, oldest first."""
        found: list[int] = []
        after: int | None = 0
        while after is not None:
            step = await self._next_ids(asked, after)
            found += step.ids
            if found and asked.one:
                break
            after = step.after
        return found

    async def _next_ids(self, asked: Chosen, after: int) -> Ids:
        """Return the next of them."""
        name, error = asked.subscription, asked.error
        if self._file is not None:
            return await self._file.look(
                lambda reader, deadline: ids_in_journal(reader, deadline, name, error, after)
            )
        return ids_in_memory(await self._page(name, after), error)

    async def _ask(self, verb: str, by: str | None, **arguments: Any) -> Any:
        return await self._ask_plainly(verb, by=by, via=VIA, **arguments)

    async def _ask_plainly(self, verb: str, **arguments: Any) -> Any:
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            answer = await self._watcher.act(verb, **given)
        except PermissionError as problem:
            raise Refused(503, f"the firm's socket belongs to another user: {problem}") from problem
        if answer is None:
            raise Refused(503, f"no bus listens at {self._watcher.path}: nothing was done")
        if not answer.ok:
            raise Refused(_STATUSES.get(answer.error.partition(":")[0], 409), answer.error)
        return answer.result


def _pieces(ids: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(ids), LETTERS_AT_ONCE):
        yield ids[first : first + LETTERS_AT_ONCE]
