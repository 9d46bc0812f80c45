"""Halts: which kill switches are active. A kill switch is active from its publication until a release.

Each is kept by its id, since each has its own reason to be lifted: two risk officers who stop a symbol
must both let it go. What a release names ends; one that names nothing ends everything in its scope.

The bus informs of halts and blocks nothing: what an agent does about one is the agent's decision.

They are saved and told to other desks. So half a surrogate pair in a text of theirs, which cannot be written,
is escaped, and a kill switch is found by what its event says all the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final

from openoutcry.core.wording import some_of
from openoutcry.printable import writable

FIRM: Final = "firm"
"""The scope of everything."""
NAMED_MOST: Final = 1_000
"""So many halts of one scope are kept by id. Further ones are kept as one without an id, by their number."""
SCOPES_SHOWN: Final = 20
"""So many scopes are named in a refusal."""
Place = tuple[str, str]
"""A halt's scope and event id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """An active kill switch.

    Attributes:
        scope: What stops: `firm` for everything, or the name of a symbol, strategy or agent.
        event_id: The id of the kill switch. Empty for those of a scope beyond the first thousand: they stand
            here together, and end with a release of the whole scope.
        by: Who pulled it: its `triggered_by` or, if that is empty, its `source_agent`.
        reason: Why.
        since_ns: When it was published, in nanoseconds since 1970; of several, the first.
        count: How many it stands for: 1, if it has an id.

    """

    scope: str
    event_id: str
    by: str = ""
    reason: str = ""
    since_ns: int = 0
    count: int = 1

    def to_dict(self) -> dict[str, str | int]:
        """Return the halt as JSON-ready data."""
        return asdict(self)


def is_release(event: Any) -> bool:
    """Return True if a kill switch event lifts halts instead of beginning one."""
    return not getattr(event, "activated", True)


def scope_of(event: Any) -> str:
    """Return the scope of a kill switch event; that of one which says none is everything."""
    scope = getattr(event, "scope", FIRM)
    return writable(str(scope)) if isinstance(scope, str) and scope else FIRM


def halt_of(event: Any, since_ns: int) -> Halt:
    """Return the halt that a kill switch begins."""
    by = getattr(event, "triggered_by", "") or getattr(event, "source_agent", "")
    reason = getattr(event, "reason", "")
    return Halt(
        scope=scope_of(event),
        event_id=writable(event.event_id),
        by=writable(str(by)),
        reason=writable(str(reason)),
        since_ns=since_ns,
    )


def ids_of(event: Any) -> tuple[str, ...]:
    """Return the ids that a release names; none: it releases its whole scope."""
    named = getattr(event, "releases", ())
    return (
        tuple(writable(str(one)) for one in named)
        if isinstance(named, list | tuple | set | frozenset)
        else ()
    )


def none_active(scope: str, scopes: Sequence[str]) -> str:
    """Return the refusal of a release of a scope in which no kill switch is active; `scopes` have some."""
    named = some_of([*map(repr, scopes)], SCOPES_SHOWN)
    where = f"there are some in {named}" if scopes else "none is active at all"
    return f"scope = {scope!r}: no kill switch is active in it; {where}"


class Halts:
    """The active kill switches of one bus, and what of them is not saved yet.

    Attributes:
        is_saved: Whether a journal keeps them, so that changes are gathered for it.

    """

    def __init__(self) -> None:
        self._by_scope: dict[str, dict[str, Halt]] = {}
        self._scopes: dict[str, str] = {}
        self._pulled: set[str] = set()
        self._unsaved: dict[Place, Halt | None] = {}
        self.is_saved: bool = False

    def __len__(self) -> int:
        together = (halts[""].count - 1 for halts in self._by_scope.values() if "" in halts)
        return sum(map(len, self._by_scope.values())) + sum(together)

    def some(self, most: int) -> list[Halt]:
        """Return up to `most` active halts: the first of each scope, then others."""
        found = [next(iter(halts.values())) for halts in islice(self._by_scope.values(), most)]
        others = (halt for halts in self._by_scope.values() for halt in islice(halts.values(), 1, None))
        return [*found, *islice(others, most - len(found))]

    def has_pulled(self, event_id: str) -> bool:
        """Return True if the kill switch with this id is active, and was pulled here, not in an earlier life.

        What an earlier life has delivered of one is the journal's to know.
        """
        return writable(event_id) in self._pulled

    def has(self, event_id: str) -> bool:
        """Return True if the kill switch with this id is active."""
        return writable(event_id) in self._scopes

    def all(self) -> tuple[Halt, ...]:
        """Return every active halt, in the order in which their scopes were first stopped."""
        return tuple(halt for halts in self._by_scope.values() for halt in halts.values())

    def of(self, scope: str) -> tuple[Halt, ...]:
        """Return the halts that concern a scope: its own, and those of the whole firm."""
        firm = tuple(self._by_scope.get(FIRM, {}).values())
        return firm if scope == FIRM else firm + tuple(self._by_scope.get(scope, {}).values())

    def inside(self, scope: str) -> tuple[Halt, ...]:
        """Return the halts that have exactly this scope: what a release of it would end."""
        return tuple(self._by_scope.get(scope, {}).values())

    def scopes(self) -> list[str]:
        """Return the scopes in which halts are active, in the order in which they were first stopped."""
        return list(self._by_scope)

    def pull(self, halt: Halt) -> None:
        """Note that a kill switch is active. One that is active already stays as it is."""
        if halt.event_id in self._scopes:
            self._pulled.add(halt.event_id)
            return
        its = self._by_scope.setdefault(halt.scope, {})
        if len(its) >= NAMED_MOST:
            more = its.get("")
            since_ns, count = (halt.since_ns, 0) if more is None else (more.since_ns, more.count)
            halt = Halt(
                scope=halt.scope,
                event_id="",
                by=halt.by,
                reason=halt.reason,
                since_ns=since_ns,
                count=count + 1,
            )
        else:
            self._scopes[halt.event_id] = halt.scope
            self._pulled.add(halt.event_id)
        its[halt.event_id] = halt
        self._note(halt.scope, halt.event_id, halt)

    def release(self, scope: str, ids: Sequence[str] = ()) -> tuple[Halt, ...]:
        """End the halts of a scope that are named, or all of it if none is; return those that ended."""
        its = self._by_scope.get(scope, {})
        named = dict.fromkeys(map(writable, ids))
        ended = [its[one] for one in named if one and one in its] if named else list(its.values())
        for halt in ended:
            del its[halt.event_id]
            self._scopes.pop(halt.event_id, None)
            self._pulled.discard(halt.event_id)
            self._note(scope, halt.event_id, None)
        if not its:
            self._by_scope.pop(scope, None)
        return tuple(ended)

    def restore(self, halts: Iterable[Halt]) -> None:
        """Put back what a release has ended that was not accepted after all."""
        for halt in halts:
            its = self._by_scope.setdefault(halt.scope, {})
            its[halt.event_id] = halt
            if halt.event_id:
                self._scopes[halt.event_id] = halt.scope
            self._note(halt.scope, halt.event_id, halt)

    # -- the journal --------------------------------------------------------------------------------

    def load(self, halts: Iterable[Halt]) -> None:
        """Begin with what a journal holds, and with what is known here and was not saved there yet."""
        unsaved, self._unsaved = self._unsaved, {}
        here = () if self.is_saved else self.all()
        self._by_scope, self._scopes = {}, {}
        self.restore(halts)
        self._unsaved, self.is_saved = {}, True
        self.restore(here)
        for (scope, event_id), halt in unsaved.items():
            if halt is not None:
                self.restore((halt,))
            elif event_id:
                self.release(scope, (event_id,))
            else:
                self._by_scope.get(scope, {}).pop("", None)
                self._note(scope, "", None)

    def save_all(self) -> None:
        """Have all of them saved: another file is used from now on."""
        for halt in self.all():
            self._note(halt.scope, halt.event_id, halt)

    @property
    def has_unsaved(self) -> bool:
        """Whether there is something to save."""
        return bool(self._unsaved)

    def take_unsaved(self) -> dict[Place, Halt | None]:
        """Return what is to be saved now, by scope and id; None: it is active no more."""
        unsaved, self._unsaved = self._unsaved, {}
        return unsaved

    def give_back(self, halts: Iterable[Halt], released: Iterable[Place]) -> None:
        """What was taken could not be saved: it is to be saved later, but for what has changed since."""
        before: dict[Place, Halt | None] = {(halt.scope, halt.event_id): halt for halt in halts}
        self._unsaved = {**before, **dict.fromkeys(released), **self._unsaved}

    def _note(self, scope: str, event_id: str, halt: Halt | None) -> None:
        if self.is_saved:
            self._unsaved[scope, event_id] = halt
