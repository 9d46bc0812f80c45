"""What the bus's own records say, in a line that a person reads."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from openoutcry.core.wording import counted, listed, rounded
from openoutcry.events.records import is_record
from openoutcry.printable import printable

NAMED_MOST: Final = 6
"""Of those who were missing so many are named."""
_MADE_UP: Final = re.compile(r"round-[0-9a-f]{8,}-[0-9a-f]+")
_COUNTED: Final = {
    "release": ("kill switch", "kill switches", "released"),
    "redrive": ("letter", "letters", "handed over again"),
    "drop_dead_letters": ("letter", "letters", "dropped"),
}
_Fields = Mapping[str, Any]


def sentence(payload: bytes) -> str | None:
    """Return what a record says, safe to show; None for other events, and for a damaged record."""
    if not is_record(payload):
        return None
    try:
        fields = msgspec.json.decode(payload)
        return printable(_SAID[fields["event_type"]](fields))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None


def answer_in_words(verb: str, answer: str) -> str:
    """Return what the bus has answered an operator, in words; as it is where that is not known."""
    try:
        found = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        return answer
    try:
        return _answer(verb, found)
    except (KeyError, TypeError, ValueError):
        return answer


def target_in_words(target: str) -> str:
    """Return what an operator acted on, without the ids of letters: the answer says how many they were."""
    return target.partition(", letter_ids ")[0]


def _answer(verb: str, found: Any) -> str:
    if verb == "halt":
        return _halted(found)
    if isinstance(found, bool) or found is None:
        return "done"
    if isinstance(found, int):
        one, more, done = _COUNTED[verb]
        return f"{found:,} {one if found == 1 else more} {done}"
    raise TypeError(verb)


def _halted(found: _Fields) -> str:
    if not found["total"]:
        said = "nobody takes kill switches"
    else:
        said = f"heard by {found['heard']:,} of {found['total']:,} in {rounded(found['slowest_ns'])}"
    if found["waiting"]:
        said += f"; waiting for {_named(found['waiting'])}"
    if found["failed"]:
        said += f"; failed in {_named(found['failed'])}"
    return f"{said}; {found['problem']}" if found.get("problem") else said


def _named(names: list[str]) -> str:
    more = len(names) - NAMED_MOST
    return listed([*names[:NAMED_MOST], *([f"{more:,} more"] if more > 0 else [])])


def _round(fields: _Fields) -> str:
    """Return the name of a round, but for one that says nothing to a person."""
    name = fields.get("round_id") or ""
    if name and not _MADE_UP.fullmatch(name):
        return f"round {name}"
    symbol = fields.get("symbol")
    return f"round for {symbol}" if symbol else "round"


def _opened(fields: _Fields) -> str:
    by = f" by {fields['opened_by']}" if fields.get("opened_by") else ""
    return (
        f"{_round(fields)} opened{by}: {counted(len(fields['roster']), 'agent')} expected, "
        f"{fields['quorum_count']:,} suffice after {rounded(fields['signal_timeout_ns'])}"
    )


def _released(fields: _Fields) -> str:
    roster, missing = fields["roster"], fields.get("missing") or []
    valid = "" if fields["valid"] else ", not valid"
    said = (
        f"{_round(fields)} released: {fields['status']}{valid}, {len(roster) - len(missing):,} of "
        f"{len(roster):,} in {rounded(fields['took_ns'])}"
    )
    if missing:
        said += f", missing {_named(missing)}"
    stand_ins = sorted({one[0] for one in fields.get("stand_ins") or ()})
    return f"{said}; an old signal stood in for {_named(stand_ins)}" if stand_ins else said


def _late(fields: _Fields) -> str:
    reason = fields.get("reason")
    what = f"abstention ({reason})" if reason is not None else "signal"
    late = rounded(fields["late_ns"])
    return f"{_round(fields)}: {fields['agent']}'s {what} came {late} after the release"


def _started(fields: _Fields) -> str:
    app = f" {fields['app']}" if fields.get("app") else ""
    return (
        f"started{app}: openoutcry {fields['version']}, Python {fields['python']}, "
        f"process {fields['process_id']} on {fields['host']}"
    )


def _answered(fields: _Fields) -> str:
    who, after = fields.get("subscription") or "the main program", f"after {rounded(fields['took_ns'])}"
    said = {"returned": "answered", "raised": fields.get("error") or "an error"}
    return f"{who} asked {fields['name']}: {said.get(fields['ended'], fields['ended'])} {after}"


def _restored(fields: _Fields) -> str:
    size, form = fields.get("state_size_bytes") or 0, fields.get("form")
    state = "what it had handled" if form == "none" else f"a saved state of {size:,} bytes"
    return f"{fields['subscription']} was given its memory back from {state}"


def _acted(fields: _Fields) -> str:
    verb, target, reason = fields["verb"], target_in_words(fields.get("target") or ""), fields.get("reason")
    what = " ".join([verb.replace("_", " "), *filter(None, [target, reason and f"({reason})"])])
    return f"{fields['operator']}, {fields['via']}: {what}: {answer_in_words(verb, fields['answer'])}"


_SAID: Final[Mapping[str, Callable[[_Fields], str]]] = {
    "round_opened": _opened,
    "round_released": _released,
    "round_late": _late,
    "run_started": _started,
    "answer_recorded": _answered,
    "memory_restored": _restored,
    "operator_action": _acted,
}
