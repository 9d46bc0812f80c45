"""What became of an order or a decision: its fills added up, its end, who refused it, what took its place."""

from collections.abc import Iterator
from math import isclose
from typing import Final

from openoutcry.core.wording import counted, listed
from openoutcry.journals.lineage.finding import Finder, Found, is_before
from openoutcry.journals.lineage.keys import CAUSE, REFERENCE
from openoutcry.journals.lineage.words import SAID_MOST, figure, number, price, short, trade_of, word

COPIES_MOST: Final = 1_024
"""At most so many events that refer to one thing are looked at."""
_FEW: Final = 128
"""Fills of an order with more events than these are not added up: that takes too long."""
_NAMED_MOST: Final = 5
ENDS: Final = frozenset(("rejected", "canceled", "expired"))


def newest_order(some: list[Found]) -> Found | None:
    """Return the newest of some events, oldest first, that is an order."""
    return next((one for one in reversed(some) if one.event_type == "order"), None)


def namesakes(finder: Finder, ref: str, target: Found) -> str:
    """Say that several orders go by a name that was asked for, or one does by what is a position as well."""
    orders = [one for one in finder.of(REFERENCE, ref, COPIES_MOST) if one.event_type == "order"]
    if orders and ref == f"#{target.entry.position}" and target.event_id not in {o.event_id for o in orders}:
        return f"This is position {ref}; an order of that name is at #{orders[-1].entry.position}."
    if len(orders) < 2:
        return ""
    named = [f"{word(one.fields, 'order_id')} (#{one.entry.position})" for one in orders[-_NAMED_MOST:]]
    fewer = len(orders) - len(named)
    before = f"{fewer:,} earlier ones, " if fewer else ""
    return (
        f"{counted(len(orders), 'order')} go by the name {short(ref)}: {before}{listed(named)}; "
        f"this is about the last."
    )


def sum_of_fills(finder: Finder, target: Found) -> str:
    """Say what the fills of an order came to, of which `target` is one, or the order itself.

    Empty where one fill is all that was ordered, or nothing of it is known.
    """
    order_id = target.fields.get("order_id")
    if not isinstance(order_id, str) or not order_id:
        return ""
    some = finder.of(REFERENCE, order_id, _FEW + 1)
    if len(some) > _FEW:
        return f"Order {short(order_id)} has more than {_FEW} events: its fills were not added up."
    order, own = _own(some, target)
    fills = [one for one in own if one.event_type == "fill" and _filled(one)]
    asked = None if order is None else number(order.fields, "quantity")
    total = sum(map(_filled, fills))
    is_all = asked is not None and isclose(asked, total)
    if target.event_type == "fill" and len(fills) < 2 and (is_all or asked is None):
        return ""
    ended = [_ended(one) for one in own if _is_end(one)]
    rest = "" if is_all else " so far"
    return f"{_came_to(order_id, target, fills, asked, total)}{ended[-1] if ended else rest}."


def _own(some: list[Found], target: Found) -> tuple[Found | None, list[Found]]:
    """Return the order that an event is of, and what belongs to it: its id may have been used again."""
    orders = [one for one in some if one.event_type == "order"]
    before = [one for one in orders if one.event_id == target.event_id or is_before(one, target)]
    order = before[-1] if before else None
    later = orders[len(before)] if len(orders) > len(before) else None
    own = [
        one
        for one in some
        if (order is None or is_before(order, one)) and (later is None or is_before(one, later))
    ]
    return order, own


def _filled(fill: Found) -> float:
    return number(fill.fields, "filled_quantity") or 0.0


def _came_to(order_id: str, target: Found, fills: list[Found], asked: float | None, total: float) -> str:
    of = "" if asked is None else f" of {figure(asked)}"
    if not fills:
        return f"Nothing{of} was filled"
    prices = [(_filled(one), number(one.fields, "fill_price")) for one in fills]
    known = [(quantity, at) for quantity, at in prices if at is not None]
    at = sum(quantity * at for quantity, at in known) / total if len(known) == len(prices) else None
    cost = "" if at is None else f" at {price(at, 4)}" + (" on average" if len(fills) > 1 else "")
    ids = [one.event_id for one in fills]
    if target.event_id in ids and len(ids) > 1:
        nth = ids.index(target.event_id) + 1
        return (
            f"It is fill {nth} of {len(ids)} of order {short(order_id)}, which came to "
            f"{figure(total)}{of}{cost}"
        )
    return f"Order {short(order_id)} came to {figure(total)}{of}{cost}"


def _is_end(found: Found) -> bool:
    return found.event_type == "order_state_change" and found.fields.get("to_state") in ENDS


def _ended(found: Found) -> str:
    reason = found.fields.get("reason")
    why = f" ({short(reason, SAID_MOST)})" if isinstance(reason, str) and reason else ""
    return f"; it was {word(found.fields, 'to_state')}{why}"


def fate_of(finder: Finder, target: Found) -> str:
    """Say what became of a decision, a verdict or an order; empty for anything else."""
    if target.event_type == "order":
        return sum_of_fills(finder, target)
    if target.event_type not in ("decision", "validated_decision"):
        return ""
    return " ".join(list(_answers(finder, target))[:_NAMED_MOST])


def _answers(finder: Finder, target: Found) -> Iterator[str]:
    """Yield who refused a decision, and what was decided in its place."""
    kinds = (CAUSE, REFERENCE) if target.event_type == "decision" else (CAUSE,)
    some = {
        one.event_id: one
        for kind in kinds
        for one in finder.of(kind, target.event_id, _FEW)
        if is_before(target, one)
    }
    for one in some.values():
        who = short(one.head.source_agent or "") or "somebody"
        if one.event_type == "validated_decision" and one.fields.get("approved") is not True:
            why = word(one.fields, "rejection_reason")
            yield f"{who} refused it{': ' if why else ''}{why} (#{one.entry.position})."
        elif one.event_type == "decision":
            yield f"After that {who} decided{trade_of(one.fields)} (#{one.entry.position})."
