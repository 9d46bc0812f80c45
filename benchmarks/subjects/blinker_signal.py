"""blinker: a signal per topic, `send` calls the receivers before it returns."""

from collections.abc import Sequence
from typing import Any

from blinker import Signal

from subjects.base import Peer, Route


class Blinker(Peer):
    async def open(self, routes: Sequence[Route]) -> None:
        self._signals: dict[str, Signal] = {}
        self._receivers = routes  # blinker holds its receivers weakly
        for topics, handler in routes:
            for topic in topics:
                self._signals.setdefault(topic, Signal()).connect(handler)

    def send(self, event: Any) -> None:
        self._signals[event.topic].send(event)
