"""A figure to reach, and what was measured."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """One line to reach: `measured` is None when the cells it needs were not run or failed."""

    workload: str
    aim: str
    target: float
    measured: float | None
    unit: str
    is_at_least: bool

    @property
    def is_met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.target if self.is_at_least else self.measured <= self.target

    def show(self, value: float | None) -> str:
        if value is None:
            return "not run"
        form: dict[str, Callable[[float], str]] = {
            "%": lambda v: f"{100 * v:.1f} %",
            "x": lambda v: f"{v:.2f} x",
            "us": lambda v: f"{v:,.1f} us",
            "MB": lambda v: f"{v:.1f} MB",
            "ms": lambda v: f"{v:,.1f} ms",
            "rounds/s": lambda v: f"{v:,.0f} rounds/s",
            "events/s": lambda v: f"{v:,.0f} events/s",
        }
        return form[self.unit](value)
