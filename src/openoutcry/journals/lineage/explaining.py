"""Following an event back to its causes, and on to what came of it."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from openoutcry.events import RECORDS
from openoutcry.journals.lineage.casework import case_of, loudness
from openoutcry.journals.lineage.explanation import Explanation, HeldFill, RoundCase, Step, VoteCount
from openoutcry.journals.lineage.finding import Finder, Found, is_before
from openoutcry.journals.lineage.gaps import Gaps
from openoutcry.journals.lineage.holdings import Sum, changed, since_flat, upto
from openoutcry.journals.lineage.keys import CAUSE, REFERENCE, ROUND
from openoutcry.journals.lineage.orders import fate_of, newest_order, sum_of_fills
from openoutcry.journals.lineage.titles import summary_of, title_of
from openoutcry.journals.lineage.words import number, said_by, short, side_of, text_in

STEPS_MOST: Final = 200
"""So many steps a chain has at most, and what came of something."""
ASIDE_MOST: Final = 20
_CHILDREN_MOST: Final = 256
_COPIES: Final = 64
_INPUTS: Final = frozenset(("market_data", "signal", *RECORDS))
"""What a main program does not make of the outcome of a round."""


class Tracer:
    """Explains one event.

    Args:
        finder: Finds events.
        ref: What was asked for.
        gaps: Notes what is not known.

    """

    def __init__(self, finder: Finder, ref: str, gaps: Gaps) -> None:
        self._finder = finder
        self._ref = ref
        self._gaps = gaps
        self._remarks: dict[str, str] = {}
        self._aside: dict[str, Found] = {}

    # -- back to the causes -------------------------------------------------------------------------

    def explain(self, target: Found, ordinal: int | None = None) -> Explanation:
        """Return why an event was published; `ordinal` says which use of its round's id is meant."""
        if target.head.round_id:
            self._finder.read_round(target.head.round_id)
        chain = self._chain(target)
        if len(chain) == 1:
            self._gaps.stands_alone(target)
        decided = next((found for found in reversed(chain) if decides(found)), None)
        rounds = self._rounds(chain, decided, ordinal)
        for case in rounds:
            self._remark_votes(chain, case)
        names = {found.event_id for found in chain}
        names |= {str(vote.signal_id) for case in rounds for vote in case.votes}
        aside = [found for name, found in self._aside.items() if name not in names][:ASIDE_MOST]
        steps = self._steps(chain, decided)
        sums = upto(self._finder, target) if target.event_type == "fill" else []
        said = summary_of(chain, decided, rounds, steps, is_whole=not self._gaps.told())
        parts = [said, self._became(target), changed(sums)]
        return Explanation(
            ref=self._ref,
            title=title_of(target),
            summary=" ".join(filter(None, parts)),
            chain=steps,
            rounds=tuple(rounds),
            aside=self._steps(aside, decided),
            held=self.held_of(since_flat(sums)) if sums and sums[-1].realised is not None else (),
            unknown=self._gaps.told(),
        )

    def _became(self, target: Found) -> str:
        """Say what became of what is explained."""
        tell = sum_of_fills if target.event_type == "fill" else fate_of
        return tell(self._finder, target)

    def _chain(self, target: Found) -> list[Found]:
        """Return what led to an event, oldest first."""
        chain, seen = [target], {target.event_id}
        while len(chain) < STEPS_MOST:
            cause = self._cause(chain[-1])
            if cause is None or cause.event_id in seen:
                return chain[::-1]
            seen.add(cause.event_id)
            chain.append(cause)
        self._gaps.note(f"The chain is longer than {STEPS_MOST} steps: what is before them is left out.")
        return chain[::-1]

    def _cause(self, found: Found) -> Found | None:
        """Return what an event was published because of: a decision of its loudest vote, others as named."""
        named = self._named_cause(found)
        if decides(found) and (named is None or named.event_type != "signal"):
            loudest = self._loudest(found)
            if loudest is not None:
                if named is not None:
                    self._aside[named.event_id] = named
                return loudest
        cause = named or self._referred(found)
        if cause is None and not found.head.causation_id:
            # a main program made it of the outcome
            if found.head.round_id and found.event_type not in _INPUTS:
                cause = self._loudest(found)
            if cause is None:
                self._gaps.no_name(found)
        return cause

    def _named_cause(self, found: Found) -> Found | None:
        cause_id = found.head.causation_id
        if not cause_id or cause_id == found.event_id:
            return None
        cause = self._finder.event(cause_id)
        if cause is None:
            self._gaps.no_cause(found, cause_id)
        return cause

    def _loudest(self, found: Found) -> Found | None:
        """Return the loudest signal that a decision rests on: of those that it names, else of its round."""
        names = found.bases()
        case = None
        if not names and found.head.round_id:
            case = case_of(self._finder, found.head.round_id, [found], found)
            votes = () if case is None else case.votes
            names = [str(vote.signal_id) for vote in votes if vote.side == "for"]
            names = names or [str(vote.signal_id) for vote in votes]
        signals = [
            signal for name in names[:_CHILDREN_MOST] if (signal := self._finder.event(name)) is not None
        ]
        wanted = {"buy": 1, "sell": -1}.get(side_of(found.fields), 0)
        liked = [signal for signal in signals if _weight(signal) * wanted > 0]
        return max(liked or signals, key=lambda signal: abs(_weight(signal)), default=None)

    def _referred(self, found: Found) -> Found | None:
        """Return an event that this one refers to: by its id, or as the order of that name."""
        first: Found | None = None
        for field, names in found.references(self._finder.named).items():
            for name in names[:_CHILDREN_MOST]:
                other = self._finder.event(name) or self._first_with(name, field, found)
                if other is None or other.event_id == found.event_id or not is_before(other, found):
                    continue
                self._remarks.setdefault(found.event_id, f"found by its {short(field)}")
                if first is None:
                    first = other
                else:
                    self._aside[other.event_id] = other
        return first

    def _first_with(self, name: str, field: str, found: Found) -> Found | None:
        """Return the last order of a name; the first event with it, if whoever asks has named the field."""
        if found.event_type == "order" and field in ("order_id", "client_order_id"):
            return None
        some = self._finder.of(REFERENCE, name, _COPIES)
        order = newest_order([one for one in some if is_before(one, found)])
        if order is not None:
            return order
        return some[0] if some and field in self._finder.named else None

    # -- rounds -------------------------------------------------------------------------------------

    def _rounds(self, chain: list[Found], decided: Found | None, ordinal: int | None) -> list[RoundCase]:
        """Return the rounds that a chain has come through, that of the decision first."""
        found = [decided, *reversed(chain)] if decided is not None else chain[::-1]
        names = dict.fromkeys(
            one.head.round_id
            for one in found
            if one.head.round_id and (one.event_type != "market_data" or one is chain[-1])
        )
        cases = []
        for name in names:
            own = decided if decided is not None and decided.head.round_id in (None, name) else None
            case = case_of(self._finder, name, chain, own, ordinal)
            if case is None:
                self._gaps.no_round(name, chain)
            elif own is not None or _is_told(case, chain):
                self._gaps.votes(case)
                cases.append(case)
        return cases

    def _remark_votes(self, chain: list[Found], case: RoundCase) -> None:
        by_id = {vote.signal_id: vote for vote in case.votes}
        for found in chain:
            vote = by_id.get(found.event_id)
            if vote is not None and len(case.votes) > 1:
                self._remarks[found.event_id] = _rank_of(vote, case.votes)

    # -- what came of it ----------------------------------------------------------------------------

    def came_of(self, target: Found) -> tuple[Step, ...]:
        """Return what was published because of an event, and because of that, oldest first."""
        found: dict[str, tuple[Found, int]] = {}
        waiting = deque([(target, 0)])
        seen = {target.event_id}
        while waiting:
            event, depth = waiting.popleft()
            for child in self._effects(event):
                if child.event_id in seen:
                    continue
                if len(found) >= STEPS_MOST:
                    self._gaps.note(f"More than {STEPS_MOST} events came of it: the rest is left out.")
                    waiting.clear()
                    break
                seen.add(child.event_id)
                found[child.event_id] = child, depth + 1
                waiting.append((child, depth + 1))
        ordered = sorted(found.values(), key=lambda one: (one[0].entry.wall_ns, one[0].entry.position))
        depths = {target.event_id: 0}
        for event, depth in ordered:  # under what it names as its cause, if that came of it too
            depths[event.event_id] = depths.get(event.head.causation_id or "", depth - 1) + 1
        steps = self._steps([target, *(event for event, _ in ordered)], None)[1:]
        return tuple(msgspec.structs.replace(step, depth=depths[step.event_id]) for step in steps)

    def _effects(self, event: Found) -> list[Found]:
        """Return what names an event as its cause, or refers to it, or was made of its round's outcome."""
        find, name = self._finder.of, event.event_id
        some = [*find(CAUSE, name, _CHILDREN_MOST), *find(REFERENCE, name, _CHILDREN_MOST)]
        if event.event_type == "order":
            for names in event.references(self._finder.named).values():
                some += [child for one in names for child in find(REFERENCE, one, _CHILDREN_MOST)]
        if event.event_type in ("signal", "round_released") and event.head.round_id:
            some += self._made_of(event, event.head.round_id)
        return [one for one in some if one.event_type not in RECORDS and self._follows(one, event)]

    def _made_of(self, event: Found, round_id: str) -> list[Found]:
        """Return what was made of the outcome of a round, of which this is a vote or the record."""
        votes = event.fields.get("votes")
        ids = {str(vote[2]) for vote in votes} if isinstance(votes, list) else set()
        return [
            child
            for child in self._finder.of(ROUND, round_id, _CHILDREN_MOST)
            if child.event_type not in _INPUTS
            and (not ids.isdisjoint(child.bases()) or (child.head.causation_id is None and not child.bases()))
        ]

    def _follows(self, one: Found, event: Found) -> bool:
        """Return True if one event came after another; the records of a round may be written late."""
        if event.event_type in RECORDS:
            return one.at_ns >= event.at_ns
        return is_before(event, one)

    # -- steps --------------------------------------------------------------------------------------

    def held_of(self, sums: list[Sum]) -> tuple[HeldFill, ...]:
        """Return fills, with what was held after each."""
        steps = self._steps([one.fill for one in sums], None)
        return tuple(
            HeldFill(
                step=step,
                quantity=one.added,
                price=number(one.fill.fields, "fill_price"),
                held=one.held,
                order_id=text_in(one.fill.fields, "order_id"),
            )
            for step, one in zip(steps, sums, strict=True)
        )

    def _steps(self, chain: list[Found], decided: Found | None) -> tuple[Step, ...]:
        """Return events as steps, with the time from one to the next."""
        if not chain:
            return ()
        own_desk = self._finder.sources[0].desk
        began = before = chain[0].at_ns
        total = chain[-1].at_ns - began
        steps = []
        asked: Mapping[str, Any] | None = None if decided is None else decided.fields
        for found in chain:
            entry, head = found.entry, found.head
            hop = found.at_ns - before
            before = found.at_ns
            steps.append(
                Step(
                    position=entry.position,
                    desk=None if found.maker == own_desk else found.maker,
                    event_id=found.event_id,
                    event_type=found.event_type,
                    agent=head.source_agent or "",
                    symbol=head.symbol or "",
                    round_id=head.round_id,
                    time_ns=found.own_ns,
                    wall_ns=found.at_ns,
                    after_ns=found.at_ns - began,
                    hop_ns=hop,
                    is_slowest=len(chain) > 2 and hop >= 1_000_000 and 2 * hop > total,
                    said=said_by(found.fields, asked),
                    remark=self._remarks.get(found.event_id, ""),
                )
            )
            asked = _asked_after(found, asked)
        return tuple(steps)


def decides(found: Found) -> bool:
    """Return True for a decision, or what else says on which signals it rests."""
    return found.event_type == "decision" or bool(found.bases())


def _rank_of(vote: VoteCount, votes: tuple[VoteCount, ...]) -> str:
    """Return how loud a vote was among others: of all of them, or of those on its side."""
    own = [one for one in votes if one.side == vote.side]
    for some, words in ((votes, "votes"), (own, f"votes {vote.side} it")):
        if loudness(vote) == max(map(loudness, some)):
            is_known = some is votes or vote.side in ("for", "against")
            return f"the loudest of {len(some)} {words}" if is_known else f"one of {len(votes)} votes"
    return f"one of {len(votes)} votes"


def _asked_after(found: Found, asked: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return what the next verdict is about: what a decision asks for, or what a verdict has left of it."""
    if found.event_type == "decision":
        return found.fields
    left = number(found.fields, "adjusted_quantity") if found.event_type == "validated_decision" else None
    return asked if left is None else {"quantity": left}


def _is_told(case: RoundCase, chain: list[Found]) -> bool:
    """Return True if a chain has come through the votes of a round, or ends in it."""
    ids = {found.event_id for found in chain}
    given = (vote.signal_id for cell in case.round.cells for vote in (*cell.votes, *cell.late))
    return chain[-1].event_type in RECORDS or not ids.isdisjoint(given)


def _weight(signal: Found) -> float:
    strength, confidence = number(signal.fields, "strength"), number(signal.fields, "confidence")
    return (strength or 0.0) * (confidence or 1.0)
