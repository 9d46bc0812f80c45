"""What must hold at the end of a life: after a stop, and when everything has drained."""

from collections.abc import Iterable
from typing import Any

from openoutcry.runtime.delivery.subscription import Subscription, takes
from openoutcry.testing.simulator.letters import key_of
from openoutcry.testing.simulator.truth import Sent, Taker, Truth
from openoutcry.trading import MarketDataEvent


class Endings:
    """Checks the ends of the lives of a seed."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    def check_stopped(self, subscriptions: Iterable[Subscription], letters: Iterable[Any]) -> None:
        """The bus has stopped: a kill switch that it took meanwhile is handled, or in the journal."""
        truth, buried = self._truth, {key_of(letter) for letter in letters}
        present = [truth.takers[made.name] for made in subscriptions if made.name in truth.takers]
        for event_id, sent in truth.sent.items():
            if not (
                sent.is_at_stop and sent.is_certain and sent.lane == "control" and sent.life == truth.life
            ):
                continue
            if truth.journal is not None and truth.journal.find(event_id) is not None:
                continue
            for taker in present:
                if takes(taker.made.selectors, sent.event) and not self._is_over(taker, sent, buried):
                    truth.fail(
                        f"the kill switch {event_id} was accepted while the bus stopped; no journal has it, "
                        f"and {taker.name} has not handled it"
                    )

    def _is_over(self, taker: Taker, sent: Sent, buried: set[tuple[str, str]]) -> bool:
        """Return True if a subscription has handled an event or its stand-in, or has a dead letter of it."""
        if sent.event.event_id in taker.settled or (taker.name, sent.event.event_id) in buried:
            return True
        over = taker.settled | {event_id for name, event_id in buried if name == taker.name}
        return self._truth.is_folded(sent, over)

    def check_drained(self, letters: Iterable[Any], subscriptions: Iterable[Subscription]) -> None:
        """Everything has drained: for every taker, what was accepted must be handled or a dead letter.

        Market data that no journal has may have been let go by a full mailbox, which has counted it.
        """
        truth, subscriptions, letters = self._truth, list(subscriptions), list(letters)
        truth.check_letters(letters)
        losing = truth.losing()
        truth.letters.check_drained(made.name for made in subscriptions if made.name not in losing)
        buried = {key_of(letter) for letter in letters} | truth.letters.dropped
        let_go = {s.name: s.mailbox.normal.overflowed for s in subscriptions}
        present = [truth.takers[name] for name in let_go if name in truth.takers]
        for event_id, sent in truth.sent.items():
            for taker in present:
                if not self._is_due(taker, sent) or self._is_over(taker, sent, buried):
                    continue
                is_passing = not taker.made.durable or not sent.level
                may_go = isinstance(sent.event, MarketDataEvent) and is_passing and sent.lane == "normal"
                if may_go and let_go[taker.name] > 0:
                    let_go[taker.name] -= 1
                    continue
                truth.fail(
                    f"{event_id} ({sent.lane} lane, {sent.level.name}) was accepted in life {sent.life}, "
                    f"and {taker.name} has neither handled it nor a dead letter of it"
                )

    def _is_due(self, taker: Taker, sent: Sent) -> bool:
        """Return True if a subscription must have got an event by now."""
        life = self._truth.life
        if sent.status != "accepted" or (not sent.level and sent.life != life):
            return False
        if sent.began <= taker.since or taker.loses(sent.lane):
            return False
        is_passing = not taker.made.durable or not sent.level
        if is_passing and (sent.life != life or sent.began <= taker.since_now):
            return False
        return takes(taker.made.selectors, sent.event)
