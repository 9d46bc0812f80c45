"""What an explanation does not know, and why: said in sentences, each once."""

from typing import Any, Final

from openoutcry.core.wording import counted
from openoutcry.events import Event
from openoutcry.events.registry import CLASS_KEY
from openoutcry.journals.lineage.explanation import RoundCase
from openoutcry.journals.lineage.finding import Finder, Found
from openoutcry.journals.lineage.keys import OWN_CLASSES, RUN
from openoutcry.journals.lineage.words import short

_WITH_CAUSES: Final = frozenset(
    ("signal", "decision", "validated_decision", "order", "fill", "order_state_change")
)
_STARTS_MOST: Final = 1_000
_FIELDS_MOST: Final = 3
_USUAL: Final = frozenset(Event.__struct_fields__) | {CLASS_KEY, "symbol"}


class Gaps:
    """Collects what is not known."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._said: dict[str, None] = {}
        self._causes: set[str] = set()

    def note(self, sentence: str) -> None:
        """Add a sentence."""
        self._said[sentence] = None

    def told(self) -> tuple[str, ...]:
        """Return the sentences."""
        return tuple(self._said)

    def no_cause(self, found: Found, cause_id: str) -> None:
        """The cause that an event names is not there. Of several that name it, the first is told."""
        if cause_id in self._causes:
            return
        self._causes.add(cause_id)
        what = f"The cause of {_which(found)}, {short(cause_id)}, is not in the journal"
        reader, desk = found.source.reader, found.maker
        reasons = []
        if desk != found.source.desk:
            reasons.append(
                f"desk {short(desk)} made {_which(found)}: its journal may have it (give it with --journals)"
            )
        if reader.first > 1:
            reasons.append(f"what stood before #{reader.first} is no longer kept")
        unkept = self._unkept(found)
        if unkept:
            reasons.append(f"{unkept} was not recorded by the settings of that run")
        self.note(f"{what}: {', or '.join(reasons)}." if reasons else f"{what}, and never was.")

    def no_name(self, found: Found) -> None:
        """An event names no cause."""
        if found.event_type in _WITH_CAUSES:
            self.note(
                f"What led to {_which(found)} is not known: it names no cause. "
                f"A main program published it, or it came from outside."
            )

    def stands_alone(self, found: Found) -> None:
        """Nothing is known to have led to an event. Of a user's class: fields of it may say what did."""
        cls = found.fields.get(CLASS_KEY)
        if not isinstance(cls, str) or cls in OWN_CLASSES or found.head.causation_id:
            return
        if found.references(self._finder.named):
            return
        names = [name for name, value in found.fields.items() if name not in _USUAL and _is_a_name(value)]
        if names:
            some = " or ".join(short(name) for name in names[:_FIELDS_MOST])
            self.note(
                f"What led to {_which(found)} is not known: it names no cause. If its {some} names another "
                f"event or what that is about, say so: --reference {short(names[0])}."
            )

    def no_round(self, round_id: str, chain: list[Found]) -> None:
        """No record of a round was found."""
        why = "its desk's journal may have it (give it with --journals)"
        if not self._starts(chain[-1]):
            why = 'rounds were not recorded (record="off")'
        elif chain[-1].source.reader.first > 1:
            why = f"what stood before #{chain[-1].source.reader.first} is no longer kept"
        elif all(found.maker == found.source.desk for found in chain):
            why = "it was opened on another desk, or nobody opened it"
        self.note(f"Who voted in round {short(round_id)}, and who did not, is not on record: {why}.")

    def votes(self, case: RoundCase) -> None:
        """Note votes whose signals are not in the journal."""
        count = sum(vote.direction is None for vote in case.votes)
        if count:
            self.note(
                f"What {counted(count, 'vote')} of round {short(case.round.round_id)} said is not known: "
                f"the signals are not in the journal."
            )
        if case.round.status == "died":
            self.note(
                f"Round {short(case.round.round_id)} was open when its process died: "
                f"who had abstained is not known."
            )

    def _unkept(self, found: Found) -> str:
        """Return what is not recorded where this event was: the market data, unless a level says so."""
        settings = self._settings(found)
        levels = settings.get("levels")
        if not isinstance(levels, dict) or settings.get("record") == "replay":
            return ""
        return "" if levels.get("market_data", "memory") != "memory" else "market data"

    def _settings(self, found: Found) -> dict[str, Any]:
        """Return the settings of the journal in the run in which an event was published."""
        starts = self._starts(found)
        before = [start for start in starts if start.entry.position <= found.entry.position] or starts[:1]
        settings = before[-1].fields.get("settings") if before else None
        kept = settings.get("persistence") if isinstance(settings, dict) else None
        return kept if isinstance(kept, dict) else {}

    def _starts(self, found: Found) -> list[Found]:
        """Return the starts of buses on the journal of an event; none of one without records."""
        return self._finder.of(RUN, "", _STARTS_MOST, found.source)


def _is_a_name(value: object) -> bool:
    return isinstance(value, str) and bool(value) and not any(map(str.isspace, value))


def _which(found: Found) -> str:
    return f"{found.event_type.replace('_', ' ') or 'the event'} #{found.entry.position}"
