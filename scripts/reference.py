"""Write the pages of the reference that are made from the code: events, settings, figures, metrics.

    python scripts/reference.py

A test holds the pages in docs/reference equal to what this prints.
"""

import ast
import inspect
import re
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import msgspec

import openoutcry
from openoutcry import HIGH_PRIORITY_EVENT_TYPES, Event, EventType, PersistenceConfig
from openoutcry.events import RECORDS, StoodIn, Vote
from openoutcry.observers.metrics import LIMITS, METRICS

KINDS = {"timestamp": "datetime | int | str"}
"""What a field takes, where its annotation does not say it."""
ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
MADE = "*This page is made from the code, by `scripts/reference.py`.*"
SETTINGS: tuple[tuple[type[Any], str, str], ...] = (
    (openoutcry.BusConfig, "[bus]", "arguments of `EventBus`, under the same names."),
    (openoutcry.BackpressureConfig, "[backpressure]", "`EventBus(backpressure_config=...)`."),
    (
        openoutcry.PersistenceConfig,
        "[persistence]",
        "`EventBus(persistence_config=...)`. `key` is given in code alone.",
    ),
    (
        openoutcry.HealthCheckConfig,
        "[health]",
        "`EventBus(health_check_config=...)`. `expectations` are given in code alone.",
    ),
    (openoutcry.Link, "[link]", "`EventBus(link=...)`."),
    (openoutcry.LadderConfig, "[health.ladder]", "`HealthCheckConfig(ladder=...)`."),
    (openoutcry.DrillConfig, "[health.drills]", "`HealthCheckConfig(drills=...)`."),
    (openoutcry.RetryPolicy, "", "`subscribe(retry=...)`."),
    (openoutcry.BreakerConfig, "", "`subscribe(breaker=...)`."),
    (openoutcry.Memory, "", "`subscribe(memory=...)`."),
    (openoutcry.Expectation, "", "`HealthCheckConfig(expectations=...)`."),
    (openoutcry.Session, "", "`Expectation(sessions=...)`."),
)
FIGURES: tuple[tuple[type[Any], str], ...] = (
    (openoutcry.BackpressureMetrics, "`bus.metrics`, and `backpressure` in the status."),
    (openoutcry.SubscriptionStats, "`subscription.stats()`, and `handlers` in the status."),
    (
        openoutcry.LedgerRow,
        "`bus.ledger().rows`, a row for each subscription and lane, and `ledger` in the status.",
    ),
)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def one_line(text: str) -> str:
    """Return a text without its line ends."""
    return " ".join(text.split())


def kind_of(kind: Any) -> str:
    """Return a type as it is written."""
    text = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    return re.sub(r"\b[a-z_.]+\.(?=[A-Z])|~", "", text)


def explained(cls: type[Any], heading: str = "Attributes") -> dict[str, str]:
    """Return what a docstring says of each attribute or argument."""
    found = re.search(rf"^{heading}:\n(.*?)(?=^\S|\Z)", inspect.getdoc(cls) or "", re.DOTALL | re.MULTILINE)
    entries = (
        re.findall(r"^(\w+): (.*?)(?=^\w+: |\Z)", dedent(found[1]), re.DOTALL | re.MULTILINE) if found else []
    )
    return {name: one_line(text) for name, text in entries}


def summary(cls: type[Any]) -> str:
    """Return what a docstring says before its sections."""
    text = inspect.getdoc(cls) or ""
    return re.split(r"^(?:Args|Attributes|Raises):$", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


# -- events -------------------------------------------------------------------------------------------


def field_lines(cls: type[Any]) -> list[tuple[str, str, str, str]]:
    """Return a row for each field that a class has of its own: name, type, default, what it means."""
    (tree,) = ast.parse(dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    rows: list[tuple[str, str, str, str]] = []
    is_told = True  # what follows a field directly is its explanation
    for statement in tree.body:
        node = statement.orelse[0] if isinstance(statement, ast.If) and statement.orelse else statement
        if isinstance(node, ast.AnnAssign):
            name = ast.unparse(node.target)
            is_told = name not in cls.__struct_fields__ or (name == "event_type" and cls is not Event)
            if not is_told:
                rows.append(
                    (
                        f"`{name}`",
                        f"`{KINDS.get(name) or kind_of(field_of(cls, name).type)}`",
                        default_of(cls, name),
                        "",
                    )
                )
        elif not is_told and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            rows[-1] = (*rows[-1][:3], one_line(str(node.value.value)))
            is_told = True
    return rows


def field_of(cls: type[Any], name: str) -> msgspec.structs.FieldInfo:
    """Return a struct's field."""
    return next(field for field in msgspec.structs.fields(cls) if field.name == name)


def default_of(cls: type[Any], name: str) -> str:
    """Return the default of a struct's field, as it is written, or that the field is required."""
    field = field_of(cls, name)
    if field.default_factory is not msgspec.NODEFAULT:
        return "made anew"
    if field.default is msgspec.NODEFAULT:
        return "required"
    return f"`{shown(field.default)}`"


def shown(value: object) -> str:
    """Return a default as one would write it."""
    if isinstance(value, frozenset):
        return "{" + ", ".join(repr(str(item)) for item in sorted(value)) + "}"
    if isinstance(value, int | float) and value == int(value) >= 10_000:
        return f"{int(value):_}"
    if hasattr(value, "__dataclass_fields__"):
        return f"{type(value).__name__}()"
    if hasattr(value, "items") and not value:
        return "{}"
    return repr(str(value) if isinstance(value, str) else value)


def class_of(event_type: EventType) -> type[Event]:
    """Return the class of the vocabulary for a type."""
    classes = [
        c
        for c in vars(openoutcry).values()
        if isinstance(c, type) and issubclass(c, Event) and c is not Event
    ]
    return next(c for c in classes if default_of(c, "event_type") == f"`{event_type.value!r}`")


def lane_of(event_type: EventType) -> str:
    """Return the lane of a type."""
    if event_type is EventType.KILL_SWITCH:
        return "control"
    return "high" if event_type in HIGH_PRIORITY_EVENT_TYPES else "normal"


def level_of(event_type: EventType) -> str:
    """Return the level of a type on a bus with a journal, unless the settings say otherwise."""
    settings = PersistenceConfig()
    if event_type in HIGH_PRIORITY_EVENT_TYPES:
        return settings.high_priority_level
    return "memory" if event_type is EventType.MARKET_DATA else settings.level


def words() -> str:
    """Return the words that fields of an enum take."""
    names = ("SignalDirection", "OrderSide", "OrderType", "TimeInForce", "OrderState", "AlertSeverity")
    rows = (
        (f"`{name}`", ", ".join(f"`{member.value}`" for member in getattr(openoutcry, name)))
        for name in names
    )
    return table(("class", "its words"), rows)


def records() -> str:
    """Return the sections of what the bus records of itself."""
    head = ("field", "type", "default", "meaning")
    sections = [
        f"### {name}\n\n`{cls.__name__}`. {one_line(inspect.getdoc(cls) or '')}\n\n"
        f"{table(head, field_lines(cls))}"
        for name, cls in RECORDS.items()
    ]
    parts = [
        f"### {cls.__name__}\n\n{one_line(inspect.getdoc(cls) or '')}\n\n{table(head, field_lines(cls))}"
        for cls in (Vote, StoodIn)
    ]
    return "\n\n".join([*sections, *parts])


def transitions() -> str:
    """Return where an order can go from each state."""
    states, following = openoutcry.OrderState, openoutcry.ORDER_TRANSITIONS
    rows = ((f"`{s.value}`", ", ".join(f"`{n.value}`" for n in states if n in following[s])) for s in states)
    return table(("from", "to"), ((state, after or "(final)") for state, after in rows))


def events_page() -> str:
    """Return the page of events."""
    head = ("field", "type", "default", "meaning")
    overview = (
        (
            f"[`{t.value}`](#{t.value})",
            f"`{class_of(t).__name__}`",
            lane_of(t),
            f"`{level_of(t)}`",
            one_line((inspect.getdoc(class_of(t)) or "").partition("\n\n")[0]),
        )
        for t in EventType
    )
    sections = "\n\n".join(
        f"### {t.value}\n\n`{class_of(t).__name__}`, lane {lane_of(t)}, level `{level_of(t)}`. "
        f"{one_line(inspect.getdoc(class_of(t)) or '')}\n\n{table(head, field_lines(class_of(t)))}"
        for t in EventType
    )
    return f"""# Event reference

A class for each `EventType`. Fields without a default are required, and all are given by name. A value
that is not acceptable raises `InvalidEvent`, a step that an order cannot take `IllegalTransition`.
Prices and quantities are floats; for exact ones see [exact prices](../howto/exact.md#exact-prices). How
to make events, and classes of your own: [make events](../howto/events.md).

## The types

*Lane*: kill switches have one of their own, high goes before normal. *Level*: what an event survives on a bus
with a journal, unless the settings say otherwise ([durability](../howto/durability.md)).

{table(("type", "class", "lane", "level", "what it says"), overview)}

## Every event

{table(head, field_lines(Event))}

## Their fields

{sections}

## Records

Written by the bus alone, into its journal, and delivered only to subscriptions that name the type or the
class: [what the bus records of itself](../journal.md#what-the-bus-records-of-itself).

{records()}

## Words

Where a field is one of these, its word will do: `side="buy"`.

{words()}

An order goes from state to state as `ORDER_TRANSITIONS` says:

{transitions()}

{MADE}
"""


# -- settings and figures --------------------------------------------------------------------------------


def default_shown(field: "Field[Any]") -> str:
    """Return the default of a setting, as it is written."""
    if field.default is not MISSING:
        return f"`{shown(field.default)}`"
    if field.default_factory is not MISSING:
        made = field.default_factory()
        return f"`{made}`" if isinstance(made, Path) else f"`{shown(made)}`"
    return "required"


def settings_page() -> str:
    """Return the page of settings."""
    sections = []
    for cls, part, use in SETTINGS:
        texts = explained(openoutcry.EventBus, "Args") if cls is openoutcry.BusConfig else explained(cls)
        named = {
            "backpressure": "backpressure_config",
            "persistence": "persistence_config",
            "health": "health_check_config",
            "link": "link",
        }
        rows = [
            (f"`{f.name}`", f"`{kind_of(f.type)}`", default_shown(f), texts[named.get(f.name, f.name)])
            for f in fields(cls)
            if not f.name.startswith("_") and not (cls is openoutcry.BusConfig and f.name in named)
        ]
        where = f"In a file: `{part}`. In code: {use}" if part else f"In code: {use}"
        sections.append(
            f"## {cls.__name__}\n\n{where}\n\n{table(('setting', 'type', 'default', 'meaning'), rows)}"
        )
    together = "\n\n".join(sections)
    return f"""# Settings

Settings are given in code, or read from a TOML file by `load_config`
([how](../howto/running.md#settings-from-a-file)). One that is unknown or out of range raises
`ConfigError` with its name, its value, the limit and the remedy. The options of `subscribe`: [one
table](subscribe.md).

{together}

{MADE}
"""


def figures_page() -> str:
    """Return the page of figures."""
    sections = []
    for cls, where in FIGURES:
        texts = explained(cls)
        rows = [(f"`{f.name}`", texts[f.name]) for f in fields(cls)]
        properties = [n for n, value in vars(cls).items() if isinstance(value, property)]
        rows += [(f"`{n}`", one_line(inspect.getdoc(getattr(cls, n)) or "")) for n in properties]
        sections.append(
            f"## {cls.__name__}\n\n{summary(cls)} {where}\n\n{table(('figure', 'meaning'), rows)}"
        )
    together = "\n\n".join(sections)
    return f"""# Figures

What a bus counts. Nothing has to be switched on for it. How to look at a bus: [watch a
bus](../howto/watching.md). What health makes of it: [health](../health.md).

{together}

{MADE}
"""


def metrics_page() -> str:
    """Return the page of metrics."""
    rows = [
        (f"`{m.name}`", m.kind, ", ".join(f"`{label}`" for label in m.labels) or "none", m.means)
        for m in METRICS
    ]
    limits = ", ".join(f"`{limit}`" for limit, _ in LIMITS)
    return f"""# Metrics

What `openoutcry metrics` and a `collector` tell of a bus. How to collect them: [collect
metrics](../howto/metrics.md). A counter may begin at 0 again when the bus is started again. A metric is left
out while it has no series: nothing was refused, say, or there is no journal. Prometheus adds `instance` and
`job`.

{table(("metric", "kind", "labels", "meaning"), rows)}

Histograms have these upper bounds (`le`), in seconds, each a power of two in nanoseconds less one:
{limits}, `+Inf`.

{MADE}
"""


PAGES = {
    "events.md": events_page,
    "settings.md": settings_page,
    "figures.md": figures_page,
    "metrics.md": metrics_page,
}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
