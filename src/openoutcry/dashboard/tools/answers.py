"""What the tools answer: each looks at the firm's journal, or asks its bus. Answers are bounded."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from openoutcry.clocks import SystemClock
from openoutcry.dashboard.acts import Acts
from openoutcry.dashboard.events import Wanted, entry_at, look_back
from openoutcry.dashboard.explaining import Explainer
from openoutcry.dashboard.journal_file import JournalFile
from openoutcry.dashboard.overview import Overview
from openoutcry.dashboard.refusals import Refused
from openoutcry.dashboard.rounds import WantedRounds, find_round
from openoutcry.dashboard.rounds import look_back as look_back_at_rounds
from openoutcry.dashboard.tools import asked, telling
from openoutcry.dashboard.tools.fitting import Fitted, said
from openoutcry.dashboard.tools.standing import journal, standing
from openoutcry.errors import JournalCorrupt
from openoutcry.ports import Clock
from openoutcry.runtime.control.watcher import Watcher
from openoutcry.units import NS_PER_S

SEARCH_NS: Final = 3 * NS_PER_S
"""A search is given up after so long, with what it has found and where it goes on."""


class Tools:
    """Answers about one firm. Nothing that is asked changes it.

    Every method returns an answer's text, and raises `Refused` or an `OpenOutcryError` with a sentence for
    whoever asked. Several may be asked at once.

    Args:
        path: The journal, whether a bus writes to it or not, or the control socket of a bus without one.
        key: The key of a sealed journal; without it nothing is held against its seals.

    Raises `JournalError` where the path is neither.

    """

    def __init__(self, path: Path, key: bytes | None = None, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock if clock is not None else SystemClock()
        self._file: JournalFile | None = None
        self._explainer: Explainer | None = None
        if not path.is_socket():
            self._file = JournalFile(path, key, self._clock)
            with suppress(JournalCorrupt):  # each answer says so
                self._file.check()
            self._explainer = Explainer(path, key)
        self._acts = Acts(Watcher(path), self._file)
        self._overview = Overview(self._clock)

    # -- why ----------------------------------------------------------------------------------------

    async def why(self, of: asked.OfRef) -> str:
        """Explain why a fill, order, decision, round or any other event came about.

        The chain of causes from the first quote to it, with the time of each step; the round behind it with
        every vote, and who was missing, late, abstained or stood in; and what is not known.
        """
        found = await self._explaining().explain(of.ref)
        answer = self._answer(**telling.explained(found))
        _fit(answer, "fills_of_the_position", "see the fills with events", keep="last")
        _fit(answer, "also_named_as_causes", "ask why of one of them")
        _fit(answer, "rounds", "ask for one with round", least=1)
        _fit(answer, "chain", "ask why of the first that is told", keep="last", least=1)
        _fit(answer, "rounds", "ask for one with round")
        _fit(answer, "not_known", "the rest is not known either")
        return answer.text()

    async def came_of(self, of: asked.OfRef) -> str:
        """Tell everything that an event has led to, oldest first, with the time from it to each."""
        found = await self._explaining().explain(of.ref, forward=True)
        if found.came_of is None:
            raise Refused(400, "what came of a position is not told: name an event, an order or a round")
        answer = self._answer(**telling.consequences(found))
        _fit(answer, "came_of", "ask what came of the last that is told")
        _fit(answer, "not_known", "the rest is not known either")
        return answer.text()

    # -- events and rounds --------------------------------------------------------------------------

    async def event(self, of: asked.OfRef) -> str:
        """Tell one event with all its fields."""
        position = await self._explaining().find(of.ref)
        found = await self._journal().look(lambda reader, _deadline: entry_at(reader, position))
        answer = self._answer(**telling.whole_event(found))
        _fit(answer, "said", "they are fields of the event, which `openoutcry history --id` prints whole")
        return answer.text()

    async def events(self, of: asked.OfEvents) -> str:
        """List the newest events that meet every condition; without conditions, the newest of all."""
        wanted, until_ns = Wanted(of.parameters(self._clock.wall_ns())), self._clock.now_ns() + SEARCH_NS
        found: list[telling.Record] = []
        scanned = 0
        while True:
            page = await self._journal().look(
                lambda reader, deadline: look_back(reader, deadline, wanted, telling.event)
            )
            found += page.events
            scanned += page.scanned
            if page.next is None or len(found) >= of.limit or self._clock.now_ns() >= until_ns:
                break
            wanted.before, wanted.limit = page.next, of.limit - len(found)
        answer = self._answer(head=page.head, scanned=scanned, next=page.next, events=found)
        _fit_page(answer, "events", is_full=len(found) >= of.limit)
        return answer.text()

    async def round(self, of: asked.OfRound) -> str:
        """Tell how a round of signals ended.

        Every agent's vote and when it came; who was missing, late, abstained or stood in; whether the outcome
        was valid.
        """
        answer = self._answer(**telling.round_in_full(*await find_round(self._journal(), of.id, of.before)))
        _fit(answer, "not_on_the_roster", "they did not count")
        _fit(answer, "agents", "ask rounds with agent for one of them")
        return answer.text()

    async def rounds(self, of: asked.OfRounds) -> str:
        """List the newest rounds: how each ended, and who did not vote in it.

        With `agent`, what became of that agent in each.
        """
        wanted = WantedRounds(of.parameters(self._clock.wall_ns()))
        until_ns = self._clock.now_ns() + SEARCH_NS
        found: list[telling.Record] = []
        scanned = 0
        while True:
            page = await look_back_at_rounds(self._journal(), wanted)
            for one, place in zip(page.rounds, page.places, strict=True):
                found.append(telling.round_line(one, place, of.agent))
            scanned += page.scanned
            if page.next is None or len(found) >= of.limit or self._clock.now_ns() >= until_ns:
                break
            wanted.before, wanted.limit = page.next, of.limit - len(found)
        answer = self._answer(scanned=scanned, next=page.next, rounds=found)
        _fit_page(answer, "rounds", is_full=len(found) >= of.limit)
        return answer.text()

    # -- now ----------------------------------------------------------------------------------------

    async def status(self, _of: asked.OfNothing) -> str:
        """Tell how the firm stands now.

        Whether its bus runs, what is wrong, worst first, which kill switches are active, and what each
        subscription does; where no bus runs, what the journal says.
        """
        parts = await standing(self._path)
        if self._file is not None:
            try:
                overview = await self._file.look(self._overview.look)
            except Refused as problem:
                parts["journal"] = {"said": said(str(problem))}
            else:
                parts |= journal(overview, is_written="started" in parts)
        answer = self._answer(**parts)
        for name in ("subscriptions", "waiting", "wrong", "halts"):
            _fit(answer, name, "those that are told matter most")
        return answer.text()

    async def dead_letters(self, of: asked.OfLetters) -> str:
        """Tell which events subscriptions failed to handle, by kind of error, with the newest of each."""
        found = await self._acts.letters(of.subscription)
        answer = self._answer(
            total=found.total, kept_in=found.where, groups=[telling.group(one) for one in found.groups]
        )
        if not found.complete:
            answer.leave_out("not all letters were read, as they are too many: ask for one subscription")
        _fit(answer, "groups", "ask for one subscription")
        return answer.text()

    # -- the parts ----------------------------------------------------------------------------------

    def _answer(self, **parts: Any) -> Fitted:
        answer = Fitted(**parts)
        if self._file is not None and not self._file.is_held:
            answer.parts["not_verified"] = "the journal is sealed, and its key was not given to this server"
        return answer

    def _journal(self) -> JournalFile:
        if self._file is None:
            raise Refused(404, "this firm has no journal: only status and dead_letters can be asked for")
        return self._file

    def _explaining(self) -> Explainer:
        self._journal()
        assert self._explainer is not None
        return self._explainer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the file."""
        if self._explainer is not None:
            self._explainer.close()
        if self._file is not None:
            self._file.close()


def _fit(
    answer: Fitted, name: str, how: str, *, keep: Literal["first", "last"] = "first", least: int = 0
) -> None:
    """Shorten a part of an answer until it fits, and say how to get what had to go."""
    left = answer.fit(name, keep, least)
    if left:
        answer.leave_out(f"{name}: the {'last' if keep == 'first' else 'first'} {left:,} of them; {how}")


def _fit_page(answer: Fitted, name: str, *, is_full: bool) -> None:
    """Shorten a page of a search, and say how to get what comes behind it."""
    parts = answer.parts
    left = answer.fit(name)
    if left:
        parts["next"] = parts[name][-1]["position"]
    following = parts.get("next")
    if following is None:
        return
    if left:
        why = f"{left:,} more were found, and are too long for one answer"
    elif is_full:
        why = "there may be older ones"
    else:
        why = f"the search was given up at position {following} for lack of time"
    answer.leave_out(f"{name}: {why}; ask again with before = {following}")
