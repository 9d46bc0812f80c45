"""What each tool is asked with: read from JSON as strictly as a command line is, and told to the client."""

import warnings
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from openoutcry.dashboard.events import PAGE_MAX
from openoutcry.dashboard.refusals import TEXT_MAX, Parameters, Refused
from openoutcry.errors import ConfigError
from openoutcry.events import check_type_name
from openoutcry.journals.instants import instant_ns
from openoutcry.journals.rounds import STATUSES

_LATEST_NS: Final = 2**63 - 1
_NAMED: Final = {"outcome": "status"}
"""What the page calls otherwise."""
_Asked = TypeVar("_Asked", bound="Asked")

Ref = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=TEXT_MAX,
        description="The id of an event, order, client order, execution, decision or round; or # and a "
        "position in the journal, such as #1207.",
    ),
]
Text = Annotated[str, Meta(max_length=TEXT_MAX)]
Agent = Annotated[Text | None, Meta(description="Only of this agent, by its exact name.")]
Symbol = Annotated[Text | None, Meta(description="Only of this symbol.")]
Since = Annotated[
    Text | None,
    Meta(
        description="At this time or later: ISO 8601, UTC without a zone, or an age before now: 15m, 2h, 7d."
    ),
]
Until = Annotated[Text | None, Meta(description="Before this time, likewise.")]
Before = Annotated[
    Annotated[int, Meta(ge=1)] | None,
    Meta(description="Only what stands before this position: `next` of an earlier answer."),
]
Limit = Annotated[
    int, Meta(ge=1, le=PAGE_MAX, description=f"At most so many, up to {PAGE_MAX}; the newest come first.")
]


class Asked(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of a tool."""

    def parameters(self, now_ns: int) -> Parameters:
        """Return them as the page's searches take them, with times as numbers.

        `now_ns` is the time before which an age lies. Raises `Refused` for what is no time.
        """
        given = {_NAMED.get(name, name): getattr(self, name) for name in self.__struct_fields__}
        for name in ("since", "until"):
            if given.get(name) is not None:
                given[name] = _instant(name, given[name], now_ns)
        return Parameters({name: str(value) for name, value in given.items() if value is not None})


class OfRef(Asked, kw_only=True):
    """One thing that has happened."""

    ref: Ref


class OfRound(Asked, kw_only=True):
    """One round."""

    id: Annotated[str, Meta(min_length=1, max_length=TEXT_MAX, description="The id of the round.")]
    before: Before = None


class OfRounds(Asked, kw_only=True):
    """Some rounds."""

    agent: Annotated[
        Text | None, Meta(description="Only with this agent on the roster, and what became of it.")
    ] = None
    outcome: Annotated[Text | None, Meta(description=f"Only those that ended so: {', '.join(STATUSES)}.")] = (
        None
    )
    symbol: Symbol = None
    since: Since = None
    until: Until = None
    before: Before = None
    limit: Limit = 20


class OfEvents(Asked, kw_only=True):
    """Some events."""

    type: Annotated[
        Text | None, Meta(description="Only of this type, such as fill; or of several, separated by commas.")
    ] = None
    agent: Agent = None
    symbol: Symbol = None
    correlation: Annotated[Text | None, Meta(description="Only of this chain of cause and effect.")] = None
    cause: Annotated[
        Text | None, Meta(description="Only what was published because of the event of this id.")
    ] = None
    round: Annotated[Text | None, Meta(description="Only of the round of this id.")] = None
    text: Annotated[Text | None, Meta(description="Only with this text in their JSON, in any case.")] = None
    since: Since = None
    until: Until = None
    before: Before = None
    limit: Limit = 50

    def parameters(self, now_ns: int) -> Parameters:
        """Return them as the page's search takes them. Raises `ConfigError` for a type that is misspelt."""
        with warnings.catch_warnings(action="ignore"):
            names = [name for part in (self.type or "").split(",") if (name := part.strip())]
            for name in names:
                check_type_name(name, ConfigError, "type")
        return Asked.parameters(msgspec.structs.replace(self, type=",".join(names)), now_ns)


class OfLetters(Asked, kw_only=True):
    """Dead letters."""

    subscription: Annotated[Text | None, Meta(description="Only of this subscription.")] = None


class OfNothing(Asked, kw_only=True):
    """No arguments."""


def read(arguments: dict[str, Any] | None, kind: type[_Asked]) -> _Asked:
    """Return arguments as a kind; null stands for what is left out. Raises `Refused` for other ones."""
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as problem:
        known = ", ".join(kind.__struct_fields__) or "none"
        raise Refused(400, f"{problem}; the arguments are: {known}") from problem


def schema_of(kind: type[Asked]) -> dict[str, Any]:
    """Return the JSON schema of arguments, as the protocol wants it: an object at the root."""
    _, components = msgspec.json.schema_components([kind])
    found: dict[str, Any] = components[kind.__name__]
    return {
        "type": "object",
        "properties": {name: _plain(of) for name, of in found["properties"].items()},
        "required": found["required"],
        "additionalProperties": False,
    }


def _plain(of: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an argument without null, for which one leaves it out."""
    (kind, *_) = of.get("anyOf", [{}])
    return {name: value for name, value in {**of, **kind}.items() if name != "anyOf" and value is not None}


def _instant(name: str, text: str, now_ns: int) -> int:
    try:
        return max(0, min(instant_ns(text, now_ns), _LATEST_NS))
    except ValueError as problem:
        raise Refused(400, f"{name}: {problem}") from problem
