"""What the parts of a bus are made from: its checked settings."""

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from openoutcry.clocks import clock_of_loop
from openoutcry.config import BusConfig, Link, PersistenceConfig, check_flag
from openoutcry.errors import ConfigError
from openoutcry.events import HIGH_PRIORITY_EVENT_TYPES
from openoutcry.ports import Clock, Journal, Transport
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.api.parts import Parts
from openoutcry.runtime.delivery.chance import Chance
from openoutcry.runtime.delivery.history import History
from openoutcry.runtime.delivery.seen_ids import SeenIds
from openoutcry.runtime.delivery.state import BusState
from openoutcry.runtime.durability.recorder import Recorder
from openoutcry.runtime.durability.slot import StoreSlot
from openoutcry.runtime.ownership import Ownership
from openoutcry.runtime.rounds.rounds import Rounds
from openoutcry.units import NS_PER_S

if TYPE_CHECKING:
    from openoutcry.runtime.linking.linking import Linking


def persistence_of(
    enabled: bool, config: PersistenceConfig | None, journal: Journal | None
) -> PersistenceConfig | None:
    """Return the settings of the journal, or None for a bus without one."""
    check_flag("enable_persistence", enabled)
    if journal is not None and not hasattr(journal, "write"):
        raise ConfigError(
            f"journal is {journal!r}; it must be a Journal such as MemoryJournal(). For a file give "
            "persistence_config=PersistenceConfig(path=...)"
        )
    wanted = enabled or journal is not None
    return config or PersistenceConfig() if wanted else config


def foundation_of(
    config: BusConfig, clock: Clock | None, journal: Journal | None, parts: Parts
) -> tuple[BusState, Rounds, Admission]:
    """Return what the other parts of a bus stand on: its state, its rounds and its admission."""
    ownership, chance = Ownership(), Chance(config.seed)
    recorder = Recorder(config, chance.first_seed)
    rounds = _rounds_of(config, clock, ownership, recorder, parts)
    bus = _state_of(config, clock or clock_of_loop(), ownership, rounds, chance, parts)
    make_slot = partial(StoreSlot, bus, config.persistence, journal, clock, recorder)
    return bus, rounds, parts.admission(bus, make_slot, config.kill_switch_releasers)


def _state_of(
    config: BusConfig, clock: Clock, ownership: Ownership, rounds: Rounds, chance: Chance, parts: Parts
) -> BusState:
    """Return the state that the parts of a bus share."""
    window_ns = int(config.dedup_window_s * NS_PER_S)
    history = History(config.history_size, config.history_bytes_most)
    pressure = config.backpressure
    important = frozenset(str(t.value) for t in HIGH_PRIORITY_EVENT_TYPES) | pressure.shed_last
    seen = SeenIds(config.dedup_window, window_ns, pressure.shed_first, important)
    checks_all = config.check_events == "always"
    return BusState(
        config.max_queue_size,
        pressure,
        clock,
        history,
        seen,
        ownership,
        rounds,
        checks_all,
        chance,
        parts.threads,
        parts.mailboxes,
        is_taped=config.persistence is not None and config.persistence.record == "replay",
    )


def _rounds_of(
    config: BusConfig, clock: Clock | None, ownership: Ownership, recorder: Recorder, parts: Parts
) -> Rounds:
    """Return the rounds of a bus."""
    is_recorded = config.persistence is not None and config.persistence.record != "off"
    return Rounds(
        signal_timeout_s=config.signal_timeout,
        barrier_timeout_s=config.barrier_timeout,
        stand_in_max_age_s=config.stand_in_max_age,
        clock=clock,
        log=recorder if is_recorded else None,
        ownership=ownership,
        new_round=parts.new_round,
    )


def linking_of(
    config: BusConfig, transport: Transport | None, bus: BusState, admission: Admission, rounds: Rounds
) -> "Linking | None":
    """Return the link to the other desks; None for a bus without one."""
    joins = _transport_of(config.link, transport)
    if joins is None:
        return None
    is_replicated = config.persistence is not None and config.persistence.is_replicated
    # who has no link does not pay for it
    kind: type[Linking] = import_module("openoutcry.runtime.linking.linking").Linking
    assert config.link is not None, "a transport takes a link"
    return kind(config.link, joins, bus, admission, rounds, is_replicated=is_replicated)


def _transport_of(link: Link | None, transport: Transport | None) -> Transport | None:
    """Return what joins the desks; None for a bus without a link."""
    if link is None:
        if transport is not None:
            raise ConfigError(
                "a transport was given, and no link: give link=Link(firm=..., desk=...) as well"
            )
        return None
    if transport is not None and not hasattr(transport, "append"):
        raise ConfigError(f"transport is {transport!r}; it must be a Transport, or leave it out")
    if transport is None:
        # an extra: who has no link does not pay for it
        made: Transport = import_module("openoutcry.links.nats.transport").NatsTransport(link)
        return made
    if transport.desk != link.desk:
        raise ConfigError(
            f"the link is of desk {link.desk!r} and the transport of desk {transport.desk!r}: "
            "make the transport for the desk of the link"
        )
    return transport
