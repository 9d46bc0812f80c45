"""What the tools answer: each looks at the firm's journal, or asks its bus, and gives text of bounded size."""

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

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
from openoutcry.dashboard.tools.fitting import Fitted
from openoutcry.dashboard.tools.standing import standing
from openoutcry.ports import Clock, Stored
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
            self._file.check()
            self._explainer = Explainer(path, key)
        self._acts = Acts(Watcher(path), self._file)
        self._overview = Overview(self._clock)

    # -- why ----------------------------------------------------------------------------------------

    async def why(self, of: asked.OfRef) -> str:
        """Explain why something happened: the chain of causes from the first to it, and who voted."""
        found = await self._explaining().explain(of.ref)
        answer = Fitted(**telling.explained(found))
        for name in ("fills_of_the_position", "also_named_as_causes", "rounds", "chain"):
            self._fit(answer, name, "last" if name == "chain" else "first", "ask for its parts with event and round")
        return answer.text()

    async def came_of(self, of: asked.OfRef) -> str:
        """Tell what came of something: everything that it caused, oldest first."""
        found = await self._explaining().explain(of.ref, forward=True)
        answer = Fitted(**telling.consequences(found))
        self._fit(answer, "came_of", "first", "ask what came of the last that is told")
        return answer.text()

    # -- events and rounds --------------------------------------------------------------------------

    async def event(self, of: asked.OfRef) -> str:
        """Tell one event with all of its fields."""
        position = await self._explaining().find(of.ref)
        found = await self._journal().look(lambda reader, _deadline: entry_at(reader, position))
        record = telling.whole_event(found)
        fields = record.pop("said")
        answer = Fitted(**record, said=fields)
        self._fit(answer, "said", "first", "the event has more fields than are told")
        return answer.text()

    async def events(self, of: asked.OfEvents) -> str:
        """Tell the newest events that meet every condition."""
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
        answer = Fitted(head=page.head, scanned=scanned, next=page.next, events=found)
        self._fit_page(answer, "events", len(found) >= of.limit)
        return answer.text()

    async def round(self, of: asked.OfRound) -> str:
        """Tell who voted what and when in a round, and who was missing, late or stood in for."""
        answer = Fitted(**telling.round_in_full(*await find_round(self._journal(), of.id, of.before)))
        self._fit(answer, "agents", "first", "ask rounds with agent for one of them")
        return answer.text()

    async def rounds(self, of: asked.OfRounds) -> str:
        """Tell how the newest rounds ended, and who did not vote in each."""
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
        answer = Fitted(scanned=scanned, next=page.next, rounds=found)
        self._fit_page(answer, "rounds", len(found) >= of.limit)
        return answer.text()

    # -- now ----------------------------------------------------------------------------------------

    async def status(self, _of: asked.OfNothing) -> str:
        """Tell how the firm stands: what is wrong, worst first, and what each subscription does."""
        overview = None if self._file is None else await self._file.look(self._overview.look)
        answer = Fitted(**await standing(self._path, overview))
        for name in ("subscriptions", "waiting", "wrong"):
            self._fit(answer, name, "first", "there are more than are told")
        return answer.text()

    async def dead_letters(self, of: asked.OfLetters) -> str:
        """Tell what subscriptions have given up, by subscription and kind of error."""
        found = await self._acts.letters(of.subscription)
        answer = Fitted(
            total=found.total, kept_in=found.where, groups=[telling.group(one) for one in found.groups]
        )
        if not found.complete:
            answer.leave_out("not all letters were read, as they are too many: ask for one subscription")
        self._fit(answer, "groups", "first", "ask for one subscription")
        return answer.text()

    # -- the parts ----------------------------------------------------------------------------------

    def _fit(self, answer: Fitted, name: str, keep: Any, how: str) -> None:
        left = answer.fit(name, keep)
        if left:
            answer.leave_out(f"{name}: the {'last' if keep == 'first' else 'first'} {left:,} of them; {how}")

    def _fit_page(self, answer: Fitted, name: str, is_full: bool) -> None:
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
