"""Faults: what may go wrong in a simulation, and how often."""

from dataclasses import dataclass, fields, replace

from openoutcry.config.checks import check_number
from openoutcry.errors import ConfigError
from openoutcry.testing.simulator.chance import Chance

OF_HANDLERS = (
    "slow",
    "stuck",
    "raising",
    "outraged",
    "cancelling",
    "self_cancelling",
    "swallowing",
    "busy",
    "deadly",
)
"""What may go wrong with a call of a handler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often things go wrong. All but `crashes` are probabilities from 0 to 1. `Faults.none()` has none.

    A seed does not have all faults: each kind is left out of some seeds and more frequent in others, because
    a bug that shows only with stuck handlers would be hidden by a crash.

    Attributes:
        slow: A call takes up to two seconds.
        stuck: A call does not end by itself.
        raising: A call raises an `Exception`, before or after what it does.
        outraged: A call raises a `BaseException` that is no `Exception`.
        cancelling: A call lets a `CancelledError` escape although it was not cancelled.
        self_cancelling: A call cancels the task that it runs in.
        swallowing: A call takes long, and continues when it is cancelled.
        busy: A call blocks the loop for up to 20 ms.
        deadly: A call ends the process.
        journal_slow: A write or sync takes up to 50 ms.
        journal_full: A write is refused: the disk is full.
        journal_locked: A write is refused: another program has locked the file.
        journal_dead: A write or sync fails, and the journal takes nothing more.
        impatient: A publisher stops waiting after a moment, and publishes the event again.
        clock_jumps: A write sees the wall clock jump by up to an hour.
        crashes: The most crashes of one seed. In the last life nothing goes wrong: it must drain.
        power_cuts: A crash loses what was not synced.
        restarts: A life ends with `stop` instead of a crash.
        otherwise: A call decides otherwise than the call before it that handled the same event.
        twins: A publisher gives another event an id that was used before.
        strangers: The bus is called on the loop of another thread.
        lost_loops: The loop is closed without a `stop`, and the bus is started again on a new one.
        unsaved: A `save` raises, or returns what JSON does not give back.
        unrestored: A `fold` or `load` raises: the agent has no memory in this life, and handles nothing.

    """

    slow: float = 0.1
    stuck: float = 0.01
    raising: float = 0.1
    outraged: float = 0.02
    cancelling: float = 0.03
    self_cancelling: float = 0.02
    swallowing: float = 0.02
    busy: float = 0.03
    deadly: float = 0.004
    journal_slow: float = 0.1
    journal_full: float = 0.04
    journal_locked: float = 0.03
    journal_dead: float = 0.01
    impatient: float = 0.1
    clock_jumps: float = 0.02
    crashes: int = 2
    power_cuts: float = 0.4
    restarts: float = 0.35
    otherwise: float = 0.2
    twins: float = 0.1
    strangers: float = 0.2
    lost_loops: float = 0.1
    unsaved: float = 0.05
    unrestored: float = 0.002

    def __post_init__(self) -> None:
        """Check every range."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "crashes":
                check_number("crashes", value, 0, whole=True)
            else:
                check_number(field.name, value, 0, 1)

    @classmethod
    def none(cls) -> "Faults":
        """Return faults that never happen."""
        return cls(**dict.fromkeys((field.name for field in fields(cls)), 0))

    def drawn(self, chance: Chance) -> "Faults":
        """Return the faults of one seed: some kinds left out, some four times as frequent."""
        drawn = {}
        for field in fields(self):
            value = getattr(self, field.name)
            times = chance.one_of((0, 0, 1, 1, 4))
            if field.name == "crashes":
                drawn[field.name] = chance.whole(0, value)
            elif field.name in ("power_cuts", "restarts"):
                drawn[field.name] = value
            else:
                drawn[field.name] = min(1.0, value * times)
        return replace(self, **drawn)

    def to_text(self) -> str:
        """Return what differs from the defaults, as in `slow=0.5,crashes=1`; empty for the defaults."""
        usual = Faults()
        changed = [f.name for f in fields(self) if getattr(self, f.name) != getattr(usual, f.name)]
        return ",".join(f"{name}={getattr(self, name):g}" for name in changed)

    @classmethod
    def from_text(cls, text: str) -> "Faults":
        """Read what `to_text` writes; `none` is `Faults.none()`. Raises `ConfigError`."""
        if text == "none":
            return cls.none()
        known = {field.name for field in fields(cls)}
        values: dict[str, float] = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in known:
                raise ConfigError(f"there is no fault {name!r}; there are {', '.join(sorted(known))}")
            try:
                values[name] = int(value) if name == "crashes" else float(value)
            except ValueError as error:
                raise ConfigError(f"{part!r}: write a fault like slow=0.5 or crashes=1") from error
        return cls(**values)  # type: ignore[arg-type]
