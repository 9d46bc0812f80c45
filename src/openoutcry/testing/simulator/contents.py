"""What events say: of two with one id the first stands, and nobody is handed the other one."""

from typing import Any, Final

FIELDS: Final = (
    "symbol",
    "side",
    "quantity",
    "order_id",
    "price",
    "filled_quantity",
    "status",
    "component",
    "scope",
    "reason",
)
Content = tuple[Any, ...]


def content_of(event: Any) -> Content:
    """Return what an event says."""
    return tuple(getattr(event, name, None) for name in FIELDS)


class Contents:
    """The contents of one event id.

    Attributes:
        may_stand: Which of them may be the one that was accepted.
        asked: All that were ever published.

    """

    __slots__ = ("asked", "may_stand")

    def __init__(self) -> None:
        self.may_stand: set[Content] = set()
        self.asked: set[Content] = set()

    def publishing(self, content: Content, *, is_certain: bool) -> bool:
        """Note a publication. Return True if another content surely stands."""
        self.asked.add(content)
        if is_certain and len(self.may_stand) == 1:
            return content not in self.may_stand
        self.may_stand.add(content)
        return False

    def refused(self) -> None:
        """Every publication so far was refused for certain."""
        self.may_stand.clear()

    def handed(self, content: Content) -> bool:
        """Somebody was handed this one, so it stands. Return False if it may not."""
        if content not in self.may_stand:
            return False
        if len(self.may_stand) > 1:
            self.may_stand = {content}
        return True
