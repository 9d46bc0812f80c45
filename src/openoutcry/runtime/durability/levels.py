"""Levels: what an event must survive, by the settings and its type."""

from openoutcry.config import PersistenceConfig
from openoutcry.events import EVERYTHING, HIGH_PRIORITY_EVENT_TYPES, EventType, fixed_event_type
from openoutcry.ports import Level, level_named

_HIGH = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES)


class Levels:
    """What the settings of a journal say."""

    def __init__(self, config: PersistenceConfig) -> None:
        self._by_type = {str(EventType.MARKET_DATA.value): Level.MEMORY} | {
            name: level_named(level) for name, level in config.levels.items()
        }
        self._ordinary = level_named(config.level)
        self._high = level_named(config.high_priority_level)

    def of(self, event_type: str, asked: str | None = None) -> Level:
        """Return what an event must survive: what is asked for, or what the settings say of its type."""
        if asked is not None:
            return level_named(asked)
        found = self._by_type.get(event_type)
        if found is None:
            return self._high if event_type in _HIGH else self._ordinary
        return found

    def may_journal(self, selector: str | type) -> bool:
        """Return True if events that a selector takes are journaled without being asked for it one by one."""
        fixed = selector if isinstance(selector, str) else fixed_event_type(selector)
        if fixed is None or fixed == EVERYTHING:
            return any(
                level > Level.MEMORY for level in (self._ordinary, self._high, *self._by_type.values())
            )
        return self.of(str(fixed)) > Level.MEMORY
