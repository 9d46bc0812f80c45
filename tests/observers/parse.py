"""Reads metrics with Prometheus's own parsers, and says what they hold.

openoutcry metrics firm.db --once | python -m tests.observers.parse
"""

import sys
from itertools import pairwise
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text


def parsed(text: str) -> dict[str, Any]:
    """Return the families by name; raises `ValueError` for what a parser refuses or what is there twice."""
    is_open = text.endswith("# EOF\n")
    found = list(parse_open(text) if is_open else parse_text(text))
    assert all(family.documentation for family in found)
    samples = [(s.name, tuple(sorted(s.labels.items()))) for family in found for s in family.samples]
    if len(set(samples)) != len(samples):
        raise ValueError("a series is there twice")
    by_name = {family.name: family for family in found}
    if len(by_name) != len(found):
        raise ValueError("a family is there twice")
    for family in found:
        if family.type == "histogram":
            check_histogram(family)
    return by_name


def check_histogram(family: Any) -> None:
    """Raise `ValueError` unless the buckets of each series ascend and end with its count."""
    by_name: dict[str, list[Any]] = {}
    for sample in family.samples:
        by_name.setdefault(sample.labels["subscription"], []).append(sample)
    for samples in by_name.values():
        buckets = [(float(s.labels["le"]), s.value) for s in samples if s.name.endswith("_bucket")]
        (count,) = [s.value for s in samples if s.name.endswith("_count")]
        (total,) = [s.value for s in samples if s.name.endswith("_sum")]
        if buckets != sorted(buckets) or [v for _, v in buckets] != sorted(v for _, v in buckets):
            raise ValueError(f"{family.name}: the buckets do not ascend")
        if buckets[-1] != (float("inf"), count):
            raise ValueError(f"{family.name}: the buckets do not end with the count")
        low = sum(edge * (now - past) for (edge, past), (_, now) in pairwise(buckets))
        if total < low * 0.99:
            raise ValueError(f"{family.name}: the sum is less than the buckets allow")


if __name__ == "__main__":
    families = parsed(sys.stdin.read())
    series = sum(len(f.samples) for f in families.values())
    sys.stdout.write(f"{len(families)} families, {series} series\n")
