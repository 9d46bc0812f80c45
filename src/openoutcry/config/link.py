"""Settings of the link between the desks of a firm that runs in several processes."""

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from openoutcry.config.checks import check_flag, check_names, check_number, check_types, check_word, nameable
from openoutcry.config.persistence import PathOrNone
from openoutcry.errors import ConfigError
from openoutcry.events.given import Names, Texts

EVERY_TYPE: Final = "*"
_SCHEMES: Final = ("nats", "tls")

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
"""What a firm or a desk may be called: a dot or a wildcard means more in the subjects that it is part of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How this process is one desk of a firm that runs in several.

    Attributes:
        firm: The firm's name: 1 to 48 of `a-z`, `0-9`, `-` and `_`. All desks of a firm give the same.
        desk: This desk's name, of the same characters. One process at a time holds it.
        servers: The engine's nodes, as URLs: `nats://host:4222`, `tls://host:4222`.
        exports: The event types that other desks may import; `*` is every type that the journal takes.
        keep: Types that are not exported in spite of that.
        imports: The event types that this desk takes from the others; `*` is every type. Market data that the
            journal does not take travels as ticks, of which the newest counts.
        releasers: The desks whose releases of kill switches this one believes; `*` is every desk.
        on_link_lost: What to do when no other desk was heard for `link_lost_s`: `alert`, a risk alert and
            UNHEALTHY; `halt`, this desk's own kill switch as well.
        link_lost_s: After how many seconds of silence that is.
        lease_s: 0: this desk trades on however long the engine is away. After its process has died, one on
            the same host takes the desk over at once, one on another host after `openoutcry firm drop`.
            Otherwise the number of seconds for which the desk is held without a renewal, which takes the
            engine: 1.25 times that long after one, another host may take it over. So that never two act,
            this desk begins no calls once it could not renew for `lease_s`, until the engine answers. It must
            outlast an election: 15 is a good value.
        replicas: How many nodes keep the logs, where this desk is the first to make them.
        max_bytes: How much each log may take, where this desk is the first to make them.
        servers_sync: You vouch for it that every node syncs before it acknowledges (`sync_interval: always`).
            Otherwise the servers are asked, which takes a system account.
        seed_file: A file with this desk's nkey seed, mode 0600.
        tls_ca: A file with the certificates to trust, instead of the system's.
        tls_cert: A file with this desk's certificate, where the servers ask for one, and
        tls_key: a file with its key.
        journals: Other desks' journals, or folders with them, that can be read from here: where `openoutcry
            history --cause` follows a cause to.

    Raises:
        ConfigError: A value is out of range.

    """

    firm: str
    desk: str
    servers: Texts = field(default=cast(Any, ("nats://127.0.0.1:4222",)))
    exports: Names = field(default=cast(Any, frozenset({"*"})))
    keep: Names = field(default=cast(Any, frozenset()))
    imports: Names = field(default=cast(Any, frozenset()))
    releasers: Names = field(default=cast(Any, frozenset({"*"})))
    on_link_lost: Literal["alert", "halt"] = "alert"
    link_lost_s: float = 5.0
    lease_s: float = 0.0
    replicas: int = 1
    max_bytes: int = 4 * 2**30
    servers_sync: bool = False
    seed_file: PathOrNone = field(default=cast(Any, None))
    tls_ca: PathOrNone = field(default=cast(Any, None))
    tls_cert: PathOrNone = field(default=cast(Any, None))
    tls_key: PathOrNone = field(default=cast(Any, None))
    journals: Texts = field(default=cast(Any, ()))

    def __post_init__(self) -> None:
        """Check every setting."""
        for name in ("firm", "desk"):
            value = getattr(self, name)
            if not (isinstance(value, str) and NAME.fullmatch(value)):
                raise ConfigError(
                    f"{name} is {value!r}; it must be 1 to 48 of a-z, 0-9, - and _, and begin with a letter "
                    "or digit"
                )
        check_word("on_link_lost", self.on_link_lost, ("alert", "halt"))
        check_number("link_lost_s", self.link_lost_s, 0.5)
        check_number("lease_s", self.lease_s, 1 if self.lease_s else 0)
        check_number("replicas", self.replicas, 1, 5, whole=True)
        check_number("max_bytes", self.max_bytes, 2**20, whole=True)
        check_flag("servers_sync", self.servers_sync)
        for name in ("exports", "keep", "imports"):
            object.__setattr__(self, name, _types(name, getattr(self, name)))
        object.__setattr__(self, "releasers", _desks("releasers", self.releasers))
        if EVERY_TYPE in self.keep:
            raise ConfigError(
                f"keep is {sorted(self.keep)}; name the types, or give exports = [] for none at all"
            )
        servers = _texts("servers", self.servers)
        if not servers:
            raise ConfigError("servers is empty; name at least one node, such as nats://127.0.0.1:4222")
        for server in servers:
            _check_server(server)
        object.__setattr__(self, "servers", servers)
        object.__setattr__(self, "journals", _texts("journals", self.journals))
        for name in ("seed_file", "tls_ca", "tls_cert", "tls_key"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, nameable(name, getattr(self, name)))
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key belong together: give both, or neither")


def _types(name: str, given: object) -> frozenset[str]:
    """Return event types as a set; a single one, and `*`, may be given as text."""
    several: Any = (given,) if isinstance(given, str) else given
    types = check_names(name, several)
    check_types(name, [one for one in several if one != EVERY_TYPE])
    return types


def _desks(name: str, given: object) -> frozenset[str]:
    """Return names of desks as a set; a single one, and `*`, may be given as text."""
    several: Any = (given,) if isinstance(given, str) else given
    desks = check_names(name, several)
    bad = sorted(desk for desk in desks if desk != EVERY_TYPE and not NAME.fullmatch(desk))
    if bad:
        raise ConfigError(f"{name} has {bad}, which no desk may be called; name desks, or give `*`")
    return desks


def _texts(name: str, given: object) -> tuple[str, ...]:
    """Return a list of texts, in its order."""
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) and one for one in given):
        raise ConfigError(f"{name} is {given!r}; it must be a list of strings, none of them empty")
    return tuple(given)


def _check_server(server: str) -> None:
    try:
        url = urlsplit(server)
        is_fine = url.scheme in _SCHEMES and url.hostname and url.port and not url.username
    except ValueError:  # a port that is none
        is_fine = False
    if not is_fine:
        shown = f"…@{server.rpartition('@')[2]}" if "@" in server else server  # no password
        raise ConfigError(
            f"servers has {shown!r}; each must be nats://host:port or tls://host:port, without a user: "
            "seed_file or tls_cert say who you are"
        )
