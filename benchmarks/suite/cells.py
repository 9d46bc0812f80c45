"""A cell: one subject in one measurement, run in a fresh process as often as the run repeats."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Cell:
    """`case` is the workload within a measurement; cells of one case stand side by side in a table."""

    measurement: str
    case: str
    label: str
    measure: str
    params: dict[str, Any] = field(default_factory=dict)
    loop: str = "asyncio"
    package: str | None = None
    """The peer package that this cell needs, if any."""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.measurement, self.case, self.label)

    def spec(self) -> dict[str, Any]:
        return {"measure": self.measure, "loop": self.loop, "params": self.params}
