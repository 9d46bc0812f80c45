"""What is changed in a what-if: who is not hired, says nothing, is slower, or is somebody else."""

from collections.abc import Iterable, Mapping

import msgspec

from openoutcry.errors import ConfigError
from openoutcry.units import NS_PER_S


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is changed. An agent has the subscriptions of its name, alone or before a dot."""

    without: tuple[str, ...] = ()
    """Agents that were never hired: on no roster, with no subscription."""
    silence: tuple[str, ...] = ()
    """Agents that are hired and say nothing."""
    delay_ns: Mapping[str, int] = {}
    """Agents that say everything later, by so many nanoseconds."""
    replace: Mapping[str, str] = {}
    """Agents in whose place an app subscribes, `module:app`, under the same name."""

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return bool(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Whose doing is changed."""
        return (*self.without, *self.silence, *self.delay_ns, *self.replace)

    def text(self) -> str:
        """Return it as it is written on the command line."""
        parts = [f"--without {name}" for name in self.without]
        parts += [f"--silence {name}" for name in self.silence]
        parts += [f"--delay {name}={delay_ns / NS_PER_S:g}s" for name, delay_ns in self.delay_ns.items()]
        parts += [f"--replace {name}={app}" for name, app in self.replace.items()]
        return " ".join(parts)

    def delay_of(self, agent: str) -> int:
        """Return by how much later an agent says everything."""
        return next((ns for name, ns in self.delay_ns.items() if is_of(agent, (name,))), 0)


NO_CHANGE = Change()


def change_of(
    without: Iterable[str] = (),
    silence: Iterable[str] = (),
    delay_s: Mapping[str, float] | None = None,
    replace: Mapping[str, str] | None = None,
) -> Change:
    """Return what is changed. Raises `ConfigError` for a name that stands in two places, and a bad delay."""
    for name, seconds in (delay_s or {}).items():
        if not 0 < seconds < 86_400 * 366:
            raise ConfigError(f"delay of {name!r} is {seconds!r} s; give seconds above 0, such as 2.0")
    found = Change(
        without=tuple(without),
        silence=tuple(silence),
        delay_ns={name: round(seconds * NS_PER_S) for name, seconds in (delay_s or {}).items()},
        replace=dict(replace or {}),
    )
    twice = sorted({name for name in found.names if found.names.count(name) > 1})
    if twice:
        raise ConfigError(f"{twice[0]!r} is changed in two ways at once; change an agent in one")
    return found


def is_of(subscription: str, agents: Iterable[str]) -> bool:
    """Return True if a subscription belongs to one of the agents."""
    return any(subscription == name or subscription.startswith(f"{name}.") for name in agents)
