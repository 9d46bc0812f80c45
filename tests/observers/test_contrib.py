"""The dashboard and the alerts in `contrib/`: every query asks for metrics and labels that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from openoutcry.observers.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "contrib" / "alerts" / "openoutcry.yml"
DASHBOARD = ROOT / "contrib" / "grafana" / "openoutcry.json"
LABELS_OF_ALL = {"instance", "job"}
OF_COUNTERS = {"rate", "increase", "irate"}
OF_GAUGES = {"delta", "deriv"}
FUNCTIONS = {*OF_COUNTERS, *OF_GAUGES, "absent", "changes", "histogram_quantile", "label_values"}
AGGREGATIONS = {"sum", "max", "min", "avg", "count", "topk"}
GROUPINGS = {"by", "without", "on", "ignoring"}
OPERATORS = {"and", "or", "unless"}
TOKEN = re.compile(
    r'\s+|(?P<text>"(?:[^"\\]|\\.)*")|(?P<range>\[[^\]]*\])|(?P<number>\d+(?:\.\d+)?)|(?P<name>[a-zA-Z_:][\w:]*)'
    r"|(?P<sign>=~|!~|!=|==|>=|<=|[-+*/<>={}(),])"
)
BY_NAME = {metric.name: metric for metric in METRICS}
HISTOGRAM = {
    f"{m.name}{ending}": m
    for m in METRICS
    if m.kind == "histogram"
    for ending in ("_bucket", "_sum", "_count")
}


class NotAQuery(Exception):
    """A query is not one, or asks for what there is not."""


def tokens(query: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(query):
        match = TOKEN.match(query, at)
        if match is None:
            raise NotAQuery(f"{query!r}: what is {query[at:]!r}?")
        if match.lastgroup is not None:
            found.append((match.lastgroup, match[0]))
        at = match.end()
    return found


def check(query: str) -> None:
    """Raise `NotAQuery` unless every name in a query is one of a metric, one of its labels, or a function."""
    plain = query.replace("$__rate_interval", "5m").replace("$instance", "x").replace("$subscription", "x")
    words = tokens(plain)
    known: set[str] = set()
    asked: set[str] = set()
    inside: list[str] = []
    function = ""
    for index, (kind, word) in enumerate(words):
        following = words[index + 1][1] if index + 1 < len(words) else ""
        if word in ("(", "{"):
            inside.append(function if word == "(" else "{")
        elif word in (")", "}"):
            if not inside:
                raise NotAQuery(f"{query!r}: {word} closes nothing")
            inside.pop()
        function = ""
        if kind != "name":
            continue
        if inside and (inside[-1] == "{" or inside[-1] in GROUPINGS):
            asked.add(word)
        elif word in FUNCTIONS | AGGREGATIONS | GROUPINGS:
            function = word
            if following != "(" and words[index + 1][1] not in GROUPINGS:
                raise NotAQuery(f"{query!r}: {word} is called with nothing")
        elif word in OPERATORS:
            continue
        elif "label_values" in inside and following == ")":
            asked.add(word)
        else:
            known |= set(labels_of(query, word, following, words[index + 1 :], inside))
    if inside:
        raise NotAQuery(f"{query!r}: {inside} is not closed")
    if not asked <= known | LABELS_OF_ALL:
        raise NotAQuery(f"{query!r}: no metric in it has the labels {sorted(asked - known)}")


def labels_of(
    query: str, name: str, following: str, rest: list[tuple[str, str]], inside: list[str]
) -> Iterator[str]:
    """Yield the labels of a metric, if it is used as its kind may be."""
    metric = HISTOGRAM.get(name) or BY_NAME.get(name)
    if metric is None or (metric.kind == "histogram" and name not in HISTOGRAM):
        raise NotAQuery(f"{query!r}: there is no metric {name!r}")
    after = "}" if following == "{" else ""
    at = next((i for i, (_, word) in enumerate(rest) if word == after), -1) + 1
    has_range = at < len(rest) and rest[at][0] == "range"
    grows, called = metric.kind != "gauge", inside[-1] if inside else ""
    if called != "label_values":
        if grows and not (has_range and called in OF_COUNTERS):
            raise NotAQuery(f"{query!r}: {name} only grows: ask for its rate or increase")
        if not grows and called in OF_COUNTERS:
            raise NotAQuery(f"{query!r}: {name} does not only grow: a rate of it is nothing")
        if has_range != (called in FUNCTIONS - {"absent"}):
            raise NotAQuery(f"{query!r}: {name} has a range and no function of ranges, or the reverse")
    yield from metric.labels
    if name.endswith("_bucket"):
        yield "le"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def queries_of_the_dashboard() -> list[str]:
    found = dashboard()
    queries = [target["expr"] for panel in found["panels"] for target in panel.get("targets", ())]
    queries += [note["expr"] for note in found["annotations"]["list"]]
    return queries + [v["query"]["query"] for v in found["templating"]["list"] if v["type"] == "query"]


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in alerts()), *queries_of_the_dashboard()])
def test_a_query_asks_for_what_there_is(query: str) -> None:
    check(query)


@pytest.mark.parametrize(
    "query",
    [
        "openoutcry_uq == 0",
        "rate(openoutcry_up[5m])",
        "openoutcry_events_published_total > 5",
        "rate(openoutcry_events_published_total)",
        "increase(openoutcry_events_refused_total{cause='x'}[5m])",
        'increase(openoutcry_events_refused_total{cause="x"}[5m])',
        "sum by (subscription) (openoutcry_queue_events)",
        "histogram_quantile(0.9, openoutcry_subscription_call_seconds)",
        "rate(openoutcry_subscription_call_seconds[5m])",
        "openoutcry_up[5m]",
        "delta(openoutcry_dead_letters)",
        "sum(openoutcry_up",
        "openoutcry_up)",
        "nonsense(openoutcry_up)",
        "openoutcry_up ; 1",
    ],
)
def test_a_query_for_what_there_is_not_is_noticed(query: str) -> None:
    with pytest.raises(NotAQuery):
        check(query)


def test_an_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")
        assert len(rule["annotations"]["description"].split()) >= 4
        assert re.fullmatch(r"\d+[sm]", rule.get("for", "0s"))
        for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
            assert label in LABELS_OF_ALL or f'"{label}"' in json.dumps(labels_in(rule["expr"]))


def labels_in(query: str) -> list[str]:
    return [label for _, name in tokens(query) if name in BY_NAME for label in BY_NAME[name].labels]


def test_a_threshold_is_explained_above_its_rule() -> None:
    text = ALERTS.read_text(encoding="utf-8")
    for rule in alerts():
        above = text.partition(f"alert: {rule['alert']}\n")[2].partition("expr:")[0].strip()
        assert above.startswith("# "), rule["alert"]
        assert len(above.split()) > 6, rule["alert"]


@pytest.mark.parametrize(
    "what",
    ["up == 0", "kill_switches_active", "ledger", "journal_dead", "busy_seconds", "let_go", "rounds_invalid"],
)
def test_what_must_wake_somebody_has_an_alert(what: str) -> None:
    assert [rule for rule in alerts() if what in rule["expr"]]


def test_the_panels_of_the_dashboard_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel["title"] for panel in panels if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs) > 0
