"""What an event says, in a few words, from its JSON: of openoutcry's own types, and of any other.

The text of events is other people's: it is cut at `SAID_MOST` characters here, and made safe to show where it
is shown.
"""

from collections.abc import Callable, Iterable, Mapping
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any, Final

from openoutcry.core.wording import rounded
from openoutcry.units import NS_PER_S

if TYPE_CHECKING:
    from openoutcry.journals.lineage.explanation import Step

SAID_MOST: Final = 160
WORD_MOST: Final = 60
_LEFT_OUT: Final = frozenset(
    (
        "event_class",
        "schema_version",
        "timestamp",
        "event_type",
        "source_agent",
        "symbol",
        "event_id",
        "correlation_id",
        "causation_id",
        "round_id",
    )
)
_FIELDS_MOST: Final = 4
_LEAST: Final = 1e-12
_LARGEST: Final = 1e15
"""Numbers outside these are shown with an exponent."""
Fields = Mapping[str, Any]


def said_by(fields: Fields, decided: Fields | None = None) -> str:
    """Return what an event says.

    A verdict is told beside the decision `decided` that it is about.
    """
    kind = fields.get("event_type")
    tell = _SAID.get(kind) if isinstance(kind, str) else None
    try:
        found = _verdict(fields, decided) if kind == "validated_decision" else tell and tell(fields)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        found = None
    return short(found or _anything(fields), SAID_MOST)


def short(text: str, most: int = WORD_MOST) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def word(fields: Fields, name: str) -> str:
    """Return a field that is text, shortened; empty if it is none."""
    value = fields.get(name)
    return short(value) if isinstance(value, str) else ""


def text_in(fields: Fields, name: str) -> str:
    """Return a field that is text, whole; empty if it is none."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def number(fields: Fields, name: str) -> float | None:
    """Return a field that is a number."""
    value = fields.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        return None
    return float(value)


def figure(value: float | None) -> str:
    """Return a quantity: 1,200, 0.5 or 0.00001234."""
    return "?" if value is None else _decimal(value, 4)


def price(value: float | None, places: int = 6) -> str:
    """Return a price with at least two decimals: 100.00, 3.5111 or 0.0000123."""
    if value is None:
        return "?"
    said = _decimal(value, places)
    return said if "e" in said or len(said.partition(".")[2]) >= 2 else f"{value:,.2f}"


def _decimal(value: float, places: int) -> str:
    """Return a number to so many decimals, and one below 1 to so many digits after its zeros."""
    size = abs(value)
    if not _LEAST <= size < _LARGEST:
        return f"{value:.6g}" if size else "0"
    if size < 1:
        places -= floor(log10(size)) + 1
    said = f"{value:,.{places}f}"
    return said.rstrip("0").rstrip(".") if "." in said else said


def money(value: float) -> str:
    """Return an amount to two decimals, or one below 1 to two digits after its zeros: 77,478.94 or 0.0034."""
    return price(value, 2)


def elapsed(duration_ns: int) -> str:
    """Return a measured time to a tenth of a millisecond; from ten seconds on, in larger units."""
    return f"{duration_ns / 1e6:,.1f} ms" if abs(duration_ns) < 10_000_000_000 else rounded(duration_ns)


def own_times_differ(steps: "Iterable[Step]") -> bool:
    """Return True where events say other times than those of their admission, as in a simulation."""
    return any(step.time_ns is not None and abs(step.time_ns - step.wall_ns) > NS_PER_S for step in steps)


def side_of(fields: Fields) -> str:
    """Return `buy` or `sell`, whatever the field is called; empty if there is none."""
    return word(fields, "side") or word(fields, "action")


def trade_of(fields: Fields) -> str:
    """Return ` to buy 100 AAPL`, as far as that is said; empty if nothing is."""
    side, symbol = side_of(fields), word(fields, "symbol")
    quantity = number(fields, "quantity")
    amount = "" if quantity is None else figure(quantity)
    parts = filter(None, [side or "trade", amount, symbol])
    return f" to {' '.join(parts)}" if side or symbol else ""


def _bar(fields: Fields) -> str:
    symbol, last = word(fields, "symbol"), price(number(fields, "price"))
    interval = word(fields, "interval")
    if number(fields, "close") is not None:
        return f"bar {symbol} {interval} close {last}".replace("  ", " ")
    bid, ask = number(fields, "bid"), number(fields, "ask")
    quote = "" if bid is None or ask is None else f", quoted {price(bid)} to {price(ask)}"
    return f"{interval + ' ' if interval else ''}{symbol} at {last}{quote}"


def opinion(fields: Fields) -> str:
    """Return what a signal says, without why."""
    strength, confidence = number(fields, "strength"), number(fields, "confidence")
    said = word(fields, "direction") or "no direction"
    said += "" if strength is None else f" {strength:+.2f}"
    return said + ("" if not confidence else f", confidence {confidence:.2f}")


def _signal(fields: Fields) -> str:
    return _because(opinion(fields), fields, "rationale")


def _because(said: str, fields: Fields, name: str) -> str:
    why = fields.get(name)
    return f"{said}: {short(why, SAID_MOST)}" if isinstance(why, str) and why else said


def _decision(fields: Fields) -> str:
    said = f"{word(fields, 'action')} {figure(number(fields, 'quantity'))}{_terms(fields)}"
    return _because(said, fields, "rationale")


def _terms(fields: Fields) -> str:
    limit, stop = number(fields, "limit_price"), number(fields, "stop_price")
    said = "" if limit is None else f", limit {price(limit)}"
    return said + ("" if stop is None else f", stop {price(stop)}")


def _verdict(fields: Fields, decided: Fields | None) -> str:
    if fields.get("approved") is not True:
        return _because("refused", fields, "rejection_reason")
    allowed = number(fields, "adjusted_quantity")
    wanted = None if decided is None else number(decided, "quantity")
    said = f"allowed {figure(wanted if allowed is None else allowed)}"
    if wanted is not None and allowed is not None and wanted != allowed:
        said += f" of {figure(wanted)}"
    metrics, checks = fields.get("risk_metrics"), fields.get("compliance_checks")
    if isinstance(checks, list) and checks:
        return f"{said}; passed: {', '.join(short(str(one)) for one in checks[:10])}"
    if isinstance(metrics, dict) and metrics:
        shown = (f"{short(str(name))} {value:.3g}" for name, value in list(metrics.items())[:_FIELDS_MOST])
        return f"{said}; {', '.join(shown)}"
    return said


def _order(fields: Fields) -> str:
    return f"order {word(fields, 'order_id')}".rstrip() + trade_of(fields) + _terms(fields)


def _fill(fields: Fields) -> str:
    quantity, at = figure(number(fields, "filled_quantity")), price(number(fields, "fill_price"))
    commission = number(fields, "commission")
    return f"filled {quantity} at {at}" + (f", commission {price(commission)}" if commission else "")


def _state(fields: Fields) -> str:
    before, now = word(fields, "from_state"), word(fields, "to_state")
    return _because(f"order {word(fields, 'order_id')}: {before} to {now}", fields, "reason")


def _alert(fields: Fields) -> str:
    return _because(f"alert {word(fields, 'alert_type')} ({word(fields, 'severity')})", fields, "message")


def _kill(fields: Fields) -> str:
    verb = "kill switch thrown for" if fields.get("activated", True) else "kill switch released for"
    return _because(f"{verb} {word(fields, 'scope')}", fields, "reason")


def _released(fields: Fields) -> str:
    roster, missing = fields["roster"], fields.get("missing") or []
    valid = "valid" if fields["valid"] else "not valid"
    return (
        f"round {fields['status']} after {elapsed(fields['took_ns'])}: "
        f"{len(roster) - len(missing):,} of {len(roster):,} answered, {valid}"
    )


def _opened(fields: Fields) -> str:
    return f"round opened: {len(fields['roster']):,} agents are asked"


def _late(fields: Fields) -> str:
    return f"{short(fields['agent'])} answered {elapsed(fields['late_ns'])} too late"


def _answer(fields: Fields) -> str:
    return f"answer from outside: {word(fields, 'name')}"


def _started(fields: Fields) -> str:
    return f"the firm was started ({short(str(fields['app'])) if fields.get('app') else 'a program'})"


_SAID: Final[Mapping[str, Callable[[Fields], str]]] = {
    "market_data": _bar,
    "signal": _signal,
    "decision": _decision,
    "order": _order,
    "fill": _fill,
    "order_state_change": _state,
    "risk_alert": _alert,
    "surveillance_alert": _alert,
    "correlation_alert": _alert,
    "kill_switch": _kill,
    "round_released": _released,
    "round_opened": _opened,
    "round_late": _late,
    "run_started": _started,
    "answer_recorded": _answer,
}


def _anything(fields: Fields) -> str:
    """Return the type of an event and the first of its own fields."""
    own = [
        f"{short(str(name))}={short(value if isinstance(value, str) else str(value))}"
        for name, value in fields.items()
        if name not in _LEFT_OUT and value not in (None, "", [], {}) and not isinstance(value, dict | list)
    ]
    kind = word(fields, "event_type") or "an event"
    return " ".join([kind.replace("_", " "), *own[:_FIELDS_MOST]])
