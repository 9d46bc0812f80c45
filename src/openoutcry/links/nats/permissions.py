"""The configuration of NATS servers for one firm: an account, a user for each desk, and what each may do.

A desk publishes under its own name alone, so that a reader may believe the subject. It reads everything of
its firm, and makes the logs where there are none. To purge, to delete, to edit and to drop is an
administrator's right; a desk that is named a trimmer may purge, since a server cannot permit that for one
subject only.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from openoutcry.errors import ConfigError
from openoutcry.links.nats.subjects import RELEASE, TOPICS, Subjects
from openoutcry.ports import LOGS

_KEY_LENGTH: Final = 56
_INFO: Final = "$JS.API.INFO"
_SYNC: Final = "$SYS.REQ.SERVER.PING.JSZ"


class DeskKey(msgspec.Struct, frozen=True, kw_only=True):
    """A desk, as a server knows it.

    Attributes:
        key: The public key of its nkey: 56 characters that begin with U.
        releases: Whether it may release kill switches.
        trims: Whether it may remove from the logs what all desks have imported.

    """

    key: str
    releases: bool = False
    trims: bool = False


class FirmPermissions(msgspec.Struct, frozen=True, kw_only=True):
    """A firm, as its servers are to know it.

    Attributes:
        firm: The firm's name.
        desks: Its desks, by name.
        admin: The public key of the administrators' nkey; empty for none.
        system: The public key of the nkey of the servers' own operators; empty for none.
        store: The folder in which a server keeps the logs; empty: the rest of its configuration says so.
        tls_cert: A file on the server with its certificate; empty for no TLS.
        tls_key: A file on the server with its key.
        tls_ca: A file on the server with the certificates that it trusts: clients must show one then.

    """

    firm: str
    desks: Mapping[str, DeskKey]
    admin: str = ""
    system: str = ""
    store: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""


def server_config(firm: FirmPermissions) -> str:
    """Return what a server's configuration needs for a firm, as text that `include` takes.

    Raises `ConfigError` for a key that is none, or one that two desks have: the server would take one for the
    other.
    """
    _check(firm)
    lines = [
        f"# The firm {firm.firm!r} of openoutcry: printed by `openoutcry firm permissions`.",
        "# Every node has this, and a server_name, listen and cluster of its own.",
        *_jetstream(firm),
        *_tls(firm),
        "accounts {",
        f"  {_quoted('firm-' + firm.firm)}: {{",
        "    jetstream: enabled",
        f'    imports: [ {{ service: {{ account: SYS, subject: "{_SYNC}" }} }} ]',
        "    users: [",
        *(line for name, desk in sorted(firm.desks.items()) for line in _desk(firm.firm, name, desk)),
        *(
            [f"      {{ nkey: {firm.admin} }}  # administrators: everything in this account"]
            if firm.admin
            else []
        ),
        "    ]",
        "  }",
        "  SYS: {",
        f'    exports: [ {{ service: "{_SYNC}", response_type: stream }} ]',
        f"    users: [ {f'{{ nkey: {firm.system} }}' if firm.system else ''} ]",
        "  }",
        "}",
        "system_account: SYS",
        "",
    ]
    return "\n".join(lines)


def desk_publishes(firm: str, desk: str, *, releases: bool = False, trims: bool = False) -> list[str]:
    """Return the subjects on which a desk may publish."""
    subjects = Subjects(firm)
    own = [subjects.lease(desk)]
    own += [subject for log in LOGS for subject in (subjects.groups(log, desk), subjects.claims(log, desk))]
    own.append(f"{subjects.inbox(desk)}.known.*")
    own += [subjects.topic(topic, desk) for topic in (*TOPICS, *([RELEASE] if releases else []))]
    streams = [*map(subjects.stream, LOGS), subjects.seats_stream]
    own += [_INFO, _SYNC]
    for verb in ("STREAM.INFO", "STREAM.CREATE", "STREAM.MSG.GET"):
        own += [f"$JS.API.{verb}.{stream}" for stream in streams]
    for log in LOGS:
        stream = subjects.stream(log)
        own.append(f"$JS.API.CONSUMER.CREATE.{stream}.*.{subjects.groups(log)}")
        own.append(f"$JS.API.CONSUMER.DELETE.{stream}.*")
        own.append(f"$JS.FC.{stream}.>")
        if trims:
            own.append(f"$JS.API.STREAM.PURGE.{stream}")
    return own


def desk_subscribes(firm: str, desk: str) -> list[str]:
    """Return the subjects that a desk may subscribe to."""
    subjects = Subjects(firm)
    return [f"{subjects.inbox(desk)}.>", *(subjects.topic(topic) for topic in (*TOPICS, RELEASE))]


def _desk(firm: str, name: str, desk: DeskKey) -> Iterator[str]:
    """Return the lines of a desk's user."""
    yield f"      {{ nkey: {desk.key}  # {name}"
    yield "        permissions: {"
    publishes = desk_publishes(firm, name, releases=desk.releases, trims=desk.trims)
    yield from _allowed("publish", publishes)
    yield from _allowed("subscribe", desk_subscribes(firm, name))
    yield "        }"
    yield "      }"


def _allowed(what: str, subjects: Iterable[str]) -> Iterator[str]:
    yield f"          {what}: {{ allow: ["
    yield from (f"            {_quoted(subject)}" for subject in subjects)
    yield "          ] }"


def _jetstream(firm: FirmPermissions) -> list[str]:
    if not firm.store:
        return []
    return ["jetstream {", f"  store_dir: {_quoted(firm.store)}", "  sync_interval: always", "}"]


def _tls(firm: FirmPermissions) -> list[str]:
    if not firm.tls_cert:
        return []
    lines = ["tls {", f"  cert_file: {_quoted(firm.tls_cert)}", f"  key_file: {_quoted(firm.tls_key)}"]
    if firm.tls_ca:
        lines += [f"  ca_file: {_quoted(firm.tls_ca)}", "  verify: true"]
    return [*lines, "}"]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _check(firm: FirmPermissions) -> None:
    """Raise `ConfigError` for keys that a server would not take, or would take for each other."""
    keys = {name: desk.key for name, desk in firm.desks.items()}
    keys |= {name: key for name, key in (("(admin)", firm.admin), ("(system)", firm.system)) if key}
    for name, key in keys.items():
        is_key = len(key) == _KEY_LENGTH and key.startswith("U") and key.isalnum() and key.isupper()
        if not is_key:
            shown = f"a seed, which is secret ({key[:2]}…)" if key.startswith("S") else repr(key)
            raise ConfigError(
                f"the key of {name} is {shown}; it must be the public key of a user's nkey: 56 characters "
                "that begin with U (`nk -inkey FILE -pubout` prints it)"
            )
    twice = sorted(name for name, key in keys.items() if list(keys.values()).count(key) > 1)
    if twice:
        raise ConfigError(f"{', '.join(twice)} have the same key; everybody must have one of their own")
    if firm.tls_cert and not firm.tls_key:
        raise ConfigError("tls_cert is given without tls_key: a server needs both")
