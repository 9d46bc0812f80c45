"""The truth about kill switches: which are active, by what their publishers were told."""

from collections.abc import Callable, Iterable
from typing import Any

from openoutcry.ports import Level
from openoutcry.testing.simulator.truth import Sent, Truth

FIRM = "firm"


def check_halts(truth: Truth, halted: Callable[[str], Iterable[Any]]) -> None:
    """Compare what the bus says is halted with what was published, over all lives."""
    control = [sent for sent in truth.sent.values() if sent.lane == "control"]
    releases = [sent for sent in control if not sent.event.activated]
    pulls = [sent for sent in control if sent.event.activated]
    for scope in sorted({FIRM, *(sent.event.scope for sent in control)}):
        shown = {halt.event_id for halt in halted(scope)}
        here = [sent for sent in pulls if sent.event.scope in (FIRM, scope)]
        unknown = shown - {sent.event.event_id for sent in here}
        if unknown:
            truth.fail(f"{sorted(unknown)} are active in {scope}, and nobody has pulled them there")
        for sent in here:
            _check(truth, sent, scope, is_shown=sent.event.event_id in shown, releases=releases)


def _check(truth: Truth, sent: Sent, scope: str, *, is_shown: bool, releases: list[Sent]) -> None:
    event_id = sent.event.event_id
    its = [release for release in releases if _is_meant(release, sent)]
    if is_shown and sent.status == "refused":
        truth.fail(f"the kill switch {event_id} was refused, and is active in {scope}")
    if is_shown and any(_is_known(truth, one) and 0 <= sent.ended < one.began for one in its):
        truth.fail(f"the kill switch {event_id} was released, and is active in {scope}")
    if not is_shown and _is_known(truth, sent) and all(one.status == "refused" for one in its):
        truth.fail(f"the kill switch {event_id} was accepted and never released, and {scope} is not halted")


def _is_meant(release: Sent, sent: Sent) -> bool:
    """Return True if a release was to end a kill switch, or may have been."""
    if release.event.scope != sent.event.scope or 0 <= release.ended < sent.began:
        return False
    return not release.named or sent.event.event_id in release.named


def _is_known(truth: Truth, sent: Sent) -> bool:
    """Return True if the bus must know of what was accepted."""
    return sent.status == "accepted" and (sent.level >= Level.PROCESS or sent.life == truth.life)
