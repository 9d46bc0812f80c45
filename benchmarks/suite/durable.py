"""What is measured of durability, with a journal on this disk: every measurement with its cells."""

from collections.abc import Iterator
from typing import Any

from suite.cells import Cell

PACKAGES = {
    "eventsourcing": "eventsourcing",
    "persistqueue": "persist_queue",
    "litequeue": "litequeue",
    "diskcache": "diskcache",
}
"""The peers, and the packages that they come in."""
SURVIVES = {"eventsourcing": "disk", "persistqueue": "disk", "litequeue": "process", "diskcache": "process"}
LEVELS = ("process", "disk")
FLOOR = "floor, bare SQLite, a blob per batch"
FLOOR_SYNC = "floor, bare fdatasync of 4 KiB"
OFFERED = "floor, bare SQLite commits at that rate"
BATCH = 512
PENDING_COUNT = 1_000_000


def many(handlers: int = 1) -> str:
    """The label of the row for `publish_many`."""
    return f"openoutcry publish_many, {handlers} handler{'s' if handlers > 1 else ''}"


def publishers(count: int) -> str:
    """The label of the row for tasks that await each publish."""
    return f"openoutcry await publish, {count} publisher{'s' if count > 1 else ''}"


def cells(*, quick: bool) -> list[Cell]:
    """Every cell of a run, in order; a quick run has shorter windows and a smaller file to recover."""
    seconds = 0.4 if quick else 1.0
    return [
        *_throughput(seconds),
        *_single(seconds),
        *_latency(seconds if quick else 5.0),
        *_recovery(200_000 if quick else PENDING_COUNT),
        *_size(20_000),
        *_memory_level(0.03 if quick else 0.08),
    ]


def _cell(
    measurement: str, case: str, label: str, measure: str, params: dict[str, Any], peer: str | None = None
) -> Cell:
    package = PACKAGES[peer] if peer else None
    return Cell(
        measurement=measurement, case=case, label=label, measure=measure, params=params, package=package
    )


def _throughput(seconds: float) -> Iterator[Cell]:
    for level in LEVELS:

        def cell(label: str, function: str, peer: str | None = None, **params: Any) -> Cell:
            return _cell("durable", level, label, f"durable.{function}", {**params, "seconds": seconds}, peer)  # noqa: B023

        yield cell(FLOOR, "measure_floor", level=level, batch=BATCH)
        yield cell(many(), "measure_many", level=level, handlers=1, batch=BATCH)
        yield cell(many(8), "measure_many", level=level, handlers=8, batch=BATCH)
        for count in (512, 64):
            yield cell(publishers(count), "measure_publishers", level=level, publishers=count)
        for peer, survives in SURVIVES.items():
            if survives == level:
                yield cell(PACKAGES[peer], "measure_peer", peer, peer_name=peer, batch=BATCH)


def _single(seconds: float) -> Iterator[Cell]:
    for level in LEVELS:

        def cell(label: str, function: str, peer: str | None = None, **params: Any) -> Cell:
            return _cell(
                "durable_single",
                level,  # noqa: B023
                label,
                f"durable.{function}",
                {**params, "seconds": seconds},
                peer,
            )

        if level == "disk":
            yield cell(FLOOR_SYNC, "measure_sync")
        yield cell(FLOOR, "measure_floor", level=level, batch=1)
        yield cell(publishers(1), "measure_publishers", level=level, publishers=1)
        for peer, survives in SURVIVES.items():
            if survives == level:
                yield cell(PACKAGES[peer], "measure_peer", peer, peer_name=peer, batch=1)


def _latency(seconds: float) -> Iterator[Cell]:
    rate_per_s = 10_000
    for level in LEVELS:
        case = f"{level}, 10k/s offered"

        def cell(label: str, function: str, peer: str | None = None, **params: Any) -> Cell:
            measure = f"durable_latency.{function}"
            return _cell("durable_latency", case, label, measure, {**params, "seconds": seconds}, peer)  # noqa: B023

        if level == "disk":
            yield cell(FLOOR_SYNC, "measure_bare", kind="sync", level=level)
        yield cell("floor, a bare SQLite commit", "measure_bare", kind="sqlite", level=level)
        yield cell(OFFERED, "measure_offered", level=level, rate_per_s=rate_per_s)
        yield cell("openoutcry await publish", "measure", level=level, rate_per_s=rate_per_s)
        for peer, survives in SURVIVES.items():
            if survives == level:
                label = f"{PACKAGES[peer]}, one put after the other"
                yield cell(label, "measure_peer", peer, peer_name=peer)


def _recovery(pending_count: int) -> Iterator[Cell]:
    case = "everything pending"
    counts = {
        "eventsourcing": pending_count // 10,
        "persistqueue": 1_000,
        "litequeue": 2_000,
        "diskcache": 5_000,
    }
    label = "openoutcry"
    measure = "durable_recovery.measure"
    yield _cell("durable_recovery", case, label, measure, {"events_count": pending_count})
    for peer, count in counts.items():
        label = f"{PACKAGES[peer]}, {count:,} events"
        params = {"peer_name": peer, "events_count": count}
        yield _cell("durable_recovery", case, label, f"{measure}_peer", params, peer)


def _size(events_count: int) -> Iterator[Cell]:
    case = "300-byte events"
    measure = "durable_size.measure"
    for batch in (512, 64, 1):
        count = events_count if batch > 1 else events_count // 10
        params = {"batch": batch, "events_count": count}
        yield _cell("durable_size", case, f"openoutcry, {batch} per commit", measure, params)
    for peer, package in PACKAGES.items():
        params = {"peer_name": peer, "events_count": 2_000}
        yield _cell("durable_size", case, package, f"{measure}_peer", params, peer)


def _memory_level(window_s: float) -> Iterator[Cell]:
    for publish, name in (("publish", "await publish"), ("many", "publish_many")):
        for handlers in (1, 8):
            for persistence in (False, True):
                yield _cell(
                    "durable_memory_level",
                    f"{name}, {handlers} handler{'s' if handlers > 1 else ''}",
                    f"persistence {'on' if persistence else 'off'}",
                    "durable_memory_level.measure",
                    {
                        "persistence": persistence,
                        "publish": publish,
                        "handlers": handlers,
                        "window_s": window_s,
                    },
                )
