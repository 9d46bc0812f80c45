"""`openoutcry firm doctor`: whether the servers and the desks of a firm fit together."""

import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from openoutcry.cli.console import print_lines, table
from openoutcry.cli.doctor import Finding
from openoutcry.cli.firm.engine import look
from openoutcry.cli.firm.options import link_of, linked
from openoutcry.cli.firm.view import FirmView, full_logs, held_by
from openoutcry.cli.journal import options
from openoutcry.cli.mistakes import FAILED
from openoutcry.config import Link
from openoutcry.core.link_words import AWAY, SILENT, LinkWord
from openoutcry.core.wording import counted, listed, span
from openoutcry.errors import ConfigError, LinkError
from openoutcry.journals.showing import json_line
from openoutcry.links.wire import BYTES_MOST
from openoutcry.ports import LOGS
from openoutcry.units import NS_PER_S
from openoutcry.version import __version__

LISTEN_S: Final = 6.0
"""A desk names its event classes every five seconds."""
CLOCKS_NS: Final = 60 * NS_PER_S
"""So far the clocks of two desks may lie apart."""
NAMED_MOST: Final = 5


@click.command()
@linked
@click.option(
    "--listen",
    "listen_s",
    type=click.FloatRange(0.1, 60),
    default=LISTEN_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to listen to the desks.",
)
@options.as_json
def doctor(listen_s: float, as_json: bool, **given: Any) -> None:
    """Check the servers of a firm, and how its desks fit together.

    The server's version, JetStream, the account and its rights, the logs, whether nodes sync; and of the
    desks their seats, clocks, and versions of openoutcry and of event classes.

    Exits with 1 if something must be put right.
    """
    link, _ = link_of(given)
    findings = list(_findings(link, listen_s))
    if as_json:
        print_lines(map(json_line, findings))
    else:
        table(("", "", ""), [(f.verdict, f.what, f.said) for f in findings])
    if any(one.verdict == "FAIL" for one in findings):
        sys.exit(FAILED)


def _findings(link: Link, listen_s: float) -> Iterator[Finding]:
    yield Finding("openoutcry", "ok", __version__)
    try:
        view = look(link, listen_s)
    except (LinkError, ConfigError, TimeoutError) as problem:
        said = str(problem) or f"no server answers at {', '.join(link.servers)}"
        yield Finding("servers", "FAIL", f"{type(problem).__name__}: {said}")
        return
    yield from of_engine(link, view)
    yield from of_desks(view)


def of_engine(link: Link, view: FirmView) -> Iterator[Finding]:
    """Check what the servers promise, and the logs."""
    facts = view.facts
    yield Finding("servers", "ok", f"{facts.engine} answers at {', '.join(link.servers)}")
    missing = [log for log in LOGS if log not in {one.log for one in facts.logs}]
    if missing:
        yield Finding(
            "logs", "note", f"{listed(missing)}: not there yet; the first desk that starts makes them"
        )
    for log in facts.logs:
        if log.replicas < link.replicas:
            said = f"kept by {counted(log.replicas, 'node')}, and the settings say {link.replicas}"
            yield Finding(f"log {log.log}", "warn", f"{said}: change the stream with the servers' own tools")
        else:
            room = f"at most {log.most_bytes:,} bytes" if log.most_bytes else "without a limit"
            yield Finding(
                f"log {log.log}", "ok", f"{log.size_bytes:,} bytes, {room}; {_copies(log.replicas)}"
            )
        if not log.most_bytes:
            said = "nothing keeps it from filling the servers' disk: give it a max_bytes below that"
            yield Finding(f"log {log.log}", "warn", said)
    for said in full_logs(facts):
        yield Finding("room", "warn", said)
    if facts.most_bytes < 2 * BYTES_MOST:
        said = (
            f"{facts.most_bytes:,} bytes at most: events larger than that stay on their desk; set max_payload"
        )
        yield Finding("messages", "warn", said)
    else:
        yield Finding("messages", "ok", f"{facts.most_bytes:,} bytes at most")
    if facts.is_synced:
        yield Finding("sync", "ok", "every node syncs before it acknowledges")
    else:
        yield Finding("sync", "note", _UNSYNCED)


_UNSYNCED: Final = (
    "nodes sync now and then: a power cut of most of them can take the logs, which the journals fill again, "
    "and the level replicated is refused. Set sync_interval: always; servers_sync if they cannot be asked"
)


def _copies(replicas: int) -> str:
    return "1 node alone keeps it" if replicas == 1 else f"{replicas} nodes keep it"


def of_desks(view: FirmView) -> Iterator[Finding]:
    """Check who holds the desks, and whether they agree on clocks and versions."""
    if not view.desks:
        yield Finding("desks", "note", view.nobody())
    for desk in view.desks:
        verdict = {LinkWord.UP: "ok", AWAY: "note", SILENT: "warn"}.get(desk.word, "warn")
        said = f"{desk.word}, held by {held_by(desk)}"
        yield Finding(f"desk {desk.name}", verdict, said if verdict == "ok" else f"{said}: {desk.why}")
        if desk.said is None:
            continue
        holders = desk.said.holders | (
            {desk.seat.holder} if desk.seat is not None and desk.seat.holder else set()
        )
        if len(holders) > 1:
            said = f"{len(holders)} processes go under this name ({listed(sorted(holders))}): end all but one"
            yield Finding(f"desk {desk.name}", "FAIL", said)
        if abs(desk.said.ahead_ns) > CLOCKS_NS:
            side = "ahead of" if desk.said.ahead_ns > 0 else "behind"
            apart = span(abs(desk.said.ahead_ns) // NS_PER_S * NS_PER_S)
            said = f"{apart} {side} this host's: times of events mislead; have both follow one time server"
            yield Finding(f"clock of {desk.name}", "warn", said)
    yield from _versions(view)
    yield from _classes(view)


def _versions(view: FirmView) -> Iterator[Finding]:
    by_version: dict[str, list[str]] = {}
    for desk in view.desks:
        if desk.said is not None and desk.said.beat.version:
            by_version.setdefault(desk.said.beat.version, []).append(desk.name)
    if len(by_version) > 1:
        said = "; ".join(f"{version}: {listed(names)}" for version, names in sorted(by_version.items()))
        yield Finding(
            "versions", "warn", f"desks run several versions of openoutcry ({said}): update the older ones"
        )
    elif by_version:
        yield Finding("versions", "ok", f"all run openoutcry {next(iter(by_version))}")


def _classes(view: FirmView) -> Iterator[Finding]:
    """Tell of event classes that are at another version on another desk."""
    seen: dict[str, dict[int, list[str]]] = {}
    told = [desk for desk in view.desks if desk.said is not None and desk.said.classes is not None]
    for desk in told:
        assert desk.said is not None
        for name, version in (desk.said.classes or {}).items():
            seen.setdefault(name, {}).setdefault(version, []).append(desk.name)
    differing = {name: versions for name, versions in seen.items() if len(versions) > 1}
    for name, versions in list(differing.items())[:NAMED_MOST]:
        said = ", ".join(f"{version} on {listed(desks)}" for version, desks in sorted(versions.items()))
        remedy = "what is newer than a desk's own it cannot read; update the older ones first"
        yield Finding("event classes", "warn", f"{name} is at version {said}: {remedy}")
    if len(differing) > NAMED_MOST:
        yield Finding("event classes", "warn", f"{len(differing) - NAMED_MOST:,} more differ")
    if told and not differing:
        yield Finding(
            "event classes", "ok", f"{counted(len(seen), 'class').replace('classs', 'classes')} the same"
        )
