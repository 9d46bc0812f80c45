"""What a change has led to: the decisions that are other ones, and why."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from openoutcry.core.wording import listed, span
from openoutcry.events import event_type_of
from openoutcry.replay.branch import Branch
from openoutcry.replay.branch_round import BranchRound
from openoutcry.replay.comparing import compared

_DECIDES: Final = ("decision", "order")
"""What is compared: decisions, or the orders of a firm that makes none."""
_WHY_MOST: Final = 4


class DecisionChange(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, or an order where a firm makes none, that is another one than on the day."""

    kind: str
    """`size`, `side`, `gone`, `new`, or `other`: something else in it differs."""
    agent: str
    """Who decides."""
    event_id: str
    """The decision."""
    symbol: str | None = None
    """The instrument."""
    round_id: str | None = None
    """The round that it was based on."""
    recorded: str | None = None
    """What was decided on the day, such as `buy 100`."""
    replayed: str | None = None
    """What is decided now."""
    why: str = ""
    """What was otherwise in that round."""

    def text(self) -> str:
        """Return it as a line."""
        where = self.round_id or self.symbol or self.event_id
        what = f"{self.recorded or 'nothing'} -> {self.replayed or 'nothing'}"
        return f"{where}  {what}" + (f"    {self.why}" if self.why else "")


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What a change has led to."""

    change: str
    """What was changed, as it is written on the command line."""
    decisions: dict[str, int]
    """How many decisions are the `same`, have another `size` or `side`, are `gone` or `new`, or differ in
    something `other`. Of a firm that makes no decisions these are its orders."""
    changes: tuple[DecisionChange, ...]
    """Those that are not the same, in the order of the day."""
    rounds_changed: int
    """How many rounds have another outcome."""
    rounds_unheeded: int
    """How many of these a main program had waited for. It is not run: what it decided on the day stands."""
    touched: tuple[str, ...]
    """The subscriptions that were handed something else than on the day."""
    left_out: int
    """Events from outside that were left out, since the order that they are about was not sent."""
    compares: str = "decision"
    """What `decisions` counts: `decision`, or `order`."""
    events: dict[str, int] = {}
    """How many of all events that agents publish are the `same`, `other`, `gone` or `new`."""


def effects_of(branch: Branch, rounds: Iterable[BranchRound]) -> Effects:
    """Return what a change has led to, when its replay is over."""
    day, now = branch.day, dict(branch.published)
    for entry in day.entries:
        if not entry.is_made and entry not in branch.left_out and _decides(entry.event):
            now.setdefault(entry.event.event_id, entry.event)
    compares = _compared_type([*(entry.event for entry in day.entries), *now.values()])
    before = {
        entry.event.event_id: entry.event for entry in day.entries if event_type_of(entry.event) == compares
    }
    by_round = {one.round_id: one for one in rounds}
    changes, counts = [], Counter[str]()
    for event_id, event in before.items():
        kind = _kind(event, now.get(event_id))
        counts[kind] += 1
        if kind != "same":
            changes.append(_change(kind, event, now.get(event_id), by_round, branch))
    for event_id, event in now.items():
        if event_id not in before and event_type_of(event) == compares:
            counts["new"] += 1
            changes.append(_change("new", None, event, by_round, branch))
    changed = [one for one in by_round.values() if one.is_changed]
    return Effects(
        change=branch.change.text(),
        decisions={kind: counts[kind] for kind in ("same", "size", "side", "gone", "new", "other")},
        changes=tuple(changes),
        rounds_changed=len(changed),
        rounds_unheeded=sum(not (one.past.opened_by or one.waiters) for one in changed),
        touched=tuple(sorted(branch.touched)),
        left_out=len(branch.left_out),
        compares=compares,
        events=_all_events(branch),
    )


def _decides(event: Any) -> bool:
    return event_type_of(event) in _DECIDES


def _compared_type(events: Iterable[Any]) -> str:
    found = {str(event_type_of(event)) for event in events}
    return next((one for one in _DECIDES if one in found), _DECIDES[0])


def _all_events(branch: Branch) -> dict[str, int]:
    """Count what agents publish, whatever it is."""
    before = {entry.event.event_id: entry.event for entry in branch.day.entries if entry.is_made}
    counts = Counter[str]()
    for event_id, event in before.items():
        kind = _kind(event, branch.published.get(event_id))
        counts[kind if kind in ("same", "gone") else "other"] += 1
    counts["new"] = sum(event_id not in before for event_id in branch.published)
    return {kind: counts[kind] for kind in ("same", "other", "gone", "new")}


def _kind(before: Any, now: Any) -> str:
    if now is None:
        return "gone"
    if now is before or not compared(before, now):
        return "same"
    if _side(before) != _side(now):
        return "side"
    return "size" if getattr(before, "quantity", None) != getattr(now, "quantity", None) else "other"


def _change(
    kind: str, before: Any, now: Any, rounds: dict[str, BranchRound], branch: Branch
) -> DecisionChange:
    event = before if now is None else now
    round_id = getattr(event, "round_id", None)
    one = rounds.get(round_id or "")
    return DecisionChange(
        kind=kind,
        agent=str(getattr(event, "source_agent", "")),
        event_id=event.event_id,
        symbol=getattr(event, "symbol", None),
        round_id=round_id,
        recorded=_words(before),
        replayed=_words(now),
        why="" if one is None else why(one, branch),
    )


def _side(event: Any) -> Any:
    return getattr(event, "action", None) or getattr(event, "side", "?")


def _words(event: Any) -> str | None:
    if event is None:
        return None
    quantity = getattr(event, "quantity", None)
    return f"{_side(event)}" + (f" {quantity:g}" if isinstance(quantity, int | float) else "")


def why(one: BranchRound, branch: Branch) -> str:
    """Return what is otherwise in a round than on the day, in words."""
    released, outcome = one.past.released, one.outcome
    if released is None or outcome is None or not one.is_changed:
        return ""
    voted = {vote.agent: vote.signal_id for vote in released.votes}
    now = {agent: signal_id for signal_id, (agent, *_) in outcome.heard.items()}
    late = {answer.agent: answer.late_ns for answer in outcome.late}
    parts = []
    for agent, signal_id in voted.items():
        if agent in late:
            parts.append(f"{agent} came {span(late[agent])} too late")
        elif agent not in now:
            parts.append(f"{agent} abstains" if agent in outcome.abstained else f"{agent}'s vote is gone")
        elif now[agent] != signal_id or outcome.heard[signal_id][2] is not branch.day.by_id[signal_id].event:
            parts.append(f"{agent} votes otherwise")
    parts += [f"{agent} votes as well" for agent in now if agent not in voted]
    if len(parts) > _WHY_MOST:
        parts = [*parts[:_WHY_MOST], f"{len(parts) - _WHY_MOST} more"]
    answered = len(outcome.roster) - len(outcome.missing)
    return f"{listed(parts)}, so {answered} of {len(outcome.roster)} answered" if parts else ""
