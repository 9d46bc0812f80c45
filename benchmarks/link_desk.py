"""One process of `link.py`: a desk with a bus and a journal, or the bare client in its place.

`python benchmarks/link_desk.py ROLE JSON`. It writes lines of JSON: `{"at": "ready"}`, and then what it has found.
A line on standard input tells it to begin, the end of standard input to end. All times are of the monotonic clock,
which the processes of one host share.
"""

import asyncio
import gc
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from openoutcry import Event, EventBus, KillSwitchEvent, MarketDataEvent, PersistenceConfig
from openoutcry.config import Link
from openoutcry.journals import JournalReader
from openoutcry.links.wire import group_length, size_of

BATCH = 512
"""So many events are published at once; so many messages of the bare client wait for an answer."""
PAD = "x" * 63
"""With this an event is some 300 bytes of JSON."""
LOOK_S = 0.01
TICKS_A_TURN = 50
SYMBOLS = 200
STREAM, SUBJECT = "BARE", "bare.events"


class LinkDeal(Event, kw_only=True):
    event_type: str = "link_deal"
    due_ns: int = 0
    pad: str = ""


class Bare(msgspec.Struct):
    """What the bare client decodes an event into: no more than its fields."""

    event_id: str
    event_type: str
    source_agent: str
    due_ns: int = 0
    pad: str = ""


def tell(at: str, **found: Any) -> None:
    print(json.dumps({"at": at, **found}), flush=True)


async def told() -> str:
    """The next line of standard input; empty at its end."""
    return await asyncio.to_thread(sys.stdin.readline)


def settle() -> None:
    """Have the collector done with what was made so far: a full collection takes 20 ms, and comes at any time."""
    gc.collect()
    gc.freeze()


def deals(count: int, **fields: Any) -> list[LinkDeal]:
    return [LinkDeal(source_agent="floor", pad=PAD, **fields) for _ in range(count)]


def desk(given: dict[str, Any], **link: Any) -> EventBus:
    """A bus with a journal, and with a link unless it is to have none."""
    joined = None
    if given.get("servers"):
        settings = {"imports": "*", "max_bytes": 2**31, "lease_s": 0} | link
        settings |= {"replicas": len(given["servers"])}
        joined = Link(firm="bench", desk=given["desk"], servers=tuple(given["servers"]), **settings)
    return EventBus(persistence_config=PersistenceConfig(path=Path(given["journal"])), link=joined)


class Counted:
    """Counts what a handler is handed, and tells when all of it was.

    Attributes:
        late_ms: How long each of them took since it was due.

    """

    def __init__(self, count: int) -> None:
        self._left = count
        self._done = asyncio.Event()
        self.late_ms: list[float] = []

    async def take(self, event: LinkDeal | Bare) -> None:
        if event.due_ns:
            self.late_ms.append((time.monotonic_ns() - event.due_ns) / 1e6)
        self._left -= 1
        if not self._left:
            self._done.set()

    async def all(self) -> int:
        await self._done.wait()
        return time.monotonic_ns()


# -- desks ----------------------------------------------------------------------------------------------------


async def fill(given: dict[str, Any]) -> None:
    """Fill a journal while there is no server."""
    events = deals(given["count"])
    async with desk(given) as bus:
        await publish_all(bus, events)
    tell("done")


async def publish_all(bus: EventBus, events: list[LinkDeal]) -> None:
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        if await bus.publish_many(batch) < len(batch):
            raise RuntimeError("the bus has refused an event")


async def send(given: dict[str, Any]) -> None:
    """Publish as fast as the bus takes it."""
    events = deals(given["count"])
    async with desk(given) as bus:
        settle()
        tell("ready")
        await told()
        tell("began", at_ns=time.monotonic_ns())
        await publish_all(bus, events)
        await told()


async def take(given: dict[str, Any]) -> None:
    """Handle what another desk makes: also what stood in the log before."""
    counted = Counted(given["count"])
    bus = desk(given)
    bus.subscribe(LinkDeal, counted.take, name="taker")
    async with bus:
        settle()
        tell("ready", at_ns=time.monotonic_ns())
        ended_ns = await counted.all()
        tell("done", at_ns=ended_ns, late_ms=counted.late_ms)
        await told()


async def export(given: dict[str, Any]) -> None:
    """Export what the journal has."""
    async with desk(given) as bus:
        began_ns, used_ns = time.monotonic_ns(), time.process_time_ns()
        while not is_exported(bus, given["count"]):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        tell("done", took_ns=time.monotonic_ns() - began_ns, cpu_ns=time.process_time_ns() - used_ns)


def is_exported(bus: EventBus, count: int) -> bool:
    """Whether the log has so many events of this desk."""
    return bus._lifecycle.linking.exporter.logs["normal"].events >= count


async def at_a_rate(rate: int, count: int, one: Callable[[int], Awaitable[Any]]) -> None:
    """Call `one` with the time at which it is due, as often as asked, whether or not it keeps up."""
    began_ns = time.monotonic_ns() + 10_000_000
    for number in range(count):
        due_ns = began_ns + number * 1_000_000_000 // rate
        if (left_ns := due_ns - time.monotonic_ns()) > 0:
            await asyncio.sleep(left_ns / 1e9)
        await one(due_ns)


async def trickle(given: dict[str, Any]) -> None:
    """Publish at a rate."""
    async with desk(given) as bus:
        settle()
        tell("ready")
        await told()
        await at_a_rate(given["rate"], given["count"], lambda due_ns: bus.publish(*deals(1, due_ns=due_ns)))
        await told()


async def throw(given: dict[str, Any]) -> None:
    """Throw kill switches, and send a flood of ticks meanwhile."""
    bus = desk(given)
    releaser = bus.releaser("benchmark")
    async with bus:
        settle()
        tell("ready")
        await told()
        flood = asyncio.create_task(send_ticks(bus, given["ticks"]))
        for number in range(given["count"]):
            for is_release in (False, True):
                await asyncio.sleep(0.05)
                kill_id = f"kill-{number}"
                if is_release:
                    await releaser.release(ids=[kill_id], reason="benchmark")
                else:
                    began_ns = time.monotonic_ns()
                    event = KillSwitchEvent(event_id=kill_id, source_agent="benchmark", reason=str(began_ns))
                    await bus.publish(event, level="memory")
        flood.cancel()
        await told()


async def send_ticks(bus: EventBus, rate: int) -> None:
    number, began_s = 0, time.monotonic()
    while True:
        due = int((time.monotonic() - began_s) * rate)
        while number < due:
            number += 1
            bus.publish_nowait(
                MarketDataEvent(symbol=f"S{number % SYMBOLS}", price=1.0 + number, source_agent="feed")
            )
            if number % TICKS_A_TURN == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0.002)


async def hear(given: dict[str, Any]) -> None:
    """Hear kill switches, and take ticks."""
    late_ms: list[float] = []
    done = asyncio.Event()

    async def heard(event: KillSwitchEvent) -> None:
        if event.activated:
            late_ms.append((time.monotonic_ns() - int(event.reason)) / 1e6)
            if len(late_ms) == given["count"]:
                done.set()

    async def tick(_event: MarketDataEvent) -> None:
        return

    bus = desk(given)
    bus.subscribe(KillSwitchEvent, heard, name="listener")
    bus.subscribe(MarketDataEvent, tick, name="ticks")
    async with bus:
        settle()
        tell("ready")
        await done.wait()
        tell("done", late_ms=late_ms)
        await told()


async def deliver(given: dict[str, Any]) -> None:
    """Deliver on one desk: windows with all that a bus does, and no export."""
    bus = desk(given, exports=(), imports=())
    counted = [0]

    async def handle(_event: LinkDeal) -> None:
        counted[0] += 1

    bus.subscribe(LinkDeal, handle, name="taker")
    events, before = deals(given["count"]), deals(BATCH * 4)
    async with bus:
        await publish_all(bus, before)
        await bus.join()
        await asyncio.sleep(1)  # what is done once is over
        tell("ready")
        await told()
        began_ns, used_ns = time.monotonic_ns(), time.process_time_ns()
        await publish_all(bus, events)
        await bus.join()
        tell("done", took_ns=time.monotonic_ns() - began_ns, cpu_ns=time.process_time_ns() - used_ns)


# -- the bare client ------------------------------------------------------------------------------------------


def payloads(count: int) -> list[bytes]:
    return [msgspec.json.encode(event) for event in deals(count)]


async def bare_stream(client: NatsClient, given: dict[str, Any]) -> None:
    """Make the stream, unless it is there."""
    await client.jetstream().add_stream(name=STREAM, subjects=[SUBJECT], num_replicas=len(given["servers"]))


async def bare_send(given: dict[str, Any]) -> None:
    """A message for each event, a window of them unanswered.

    The answers are counted here: nats-py's own way, a future for each, takes three times as long.
    """
    client = await nats.connect(given["servers"], pending_size=2**26)
    await bare_stream(client, given)
    data, inbox, count = payloads(given["count"]), client.new_inbox(), given["count"]
    answered, news = 0, asyncio.Event()

    async def hear(message: Msg) -> None:
        nonlocal answered
        if b'"error"' in message.data or not message.data:
            raise RuntimeError(f"the server has refused an event: {message.data!r}")
        answered += 1
        news.set()

    await client.subscribe(inbox, cb=hear)
    settle()
    tell("ready")
    await told()
    tell("began", at_ns=time.monotonic_ns())
    for number, one in enumerate(data):
        while number - answered >= BATCH:
            news.clear()
            await news.wait()
        await client.publish(SUBJECT, one, reply=inbox)
    while answered < count:
        news.clear()
        await news.wait()
    await told()
    await client.close()


async def bare_take(given: dict[str, Any]) -> None:
    """Pull, decode, and acknowledge: two batches are asked for at a time, and acknowledged as a whole.

    nats-py's own `fetch` and an answer for each message take three times as long.
    """
    client = await nats.connect(given["servers"])
    await bare_stream(client, given)
    settings = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=4 * BATCH)
    await client.jetstream().add_consumer(STREAM, settings, durable_name="taker")
    decode = msgspec.json.Decoder(Bare).decode
    inbox, ask = client.new_inbox(), f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.taker"
    left, done = given["count"], asyncio.Event()

    async def hear(message: Msg) -> None:
        nonlocal left
        if not message.data:
            raise RuntimeError(f"the server gives no events: {message.headers}")
        decode(message.data)
        left -= 1
        if left % BATCH == 0:
            await client.publish(message.reply, b"+ACK")
            await client.publish(ask, b'{"batch":%d}' % BATCH, reply=inbox)
        if not left:
            done.set()

    await client.subscribe(inbox, cb=hear, pending_msgs_limit=-1, pending_bytes_limit=-1)
    for _ in range(2):
        await client.publish(ask, b'{"batch":%d}' % BATCH, reply=inbox)
    settle()
    tell("ready")
    await done.wait()
    tell("done", at_ns=time.monotonic_ns())
    await told()
    await client.close()


def groups_of(journal: str) -> list[bytes]:
    """What a journal has, a line each, in groups as large as those of a link."""
    found: list[bytes] = []
    with JournalReader(Path(journal), held=False) as reader:
        after = 0
        while page := reader.read(after, BATCH):
            page = page[: group_length(map(size_of, page))]
            found.append(b"\n".join(entry.payload for entry in page))
            after = page[-1].position
    return found


async def bare_export(given: dict[str, Any]) -> None:
    """Have groups stored that were made before, one at a time; then pull them, and decode each event."""
    client = await nats.connect(given["servers"])
    jetstream = client.jetstream()
    await bare_stream(client, given)
    groups = groups_of(given["journal"])
    began_ns = time.monotonic_ns()
    for group in groups:
        await jetstream.publish(SUBJECT, group)
    exported_ns = time.monotonic_ns()
    pulled = await jetstream.pull_subscribe(SUBJECT, durable="taker", stream=STREAM)
    decode, count, left = msgspec.json.Decoder(Bare).decode, 0, len(groups)
    while left:
        messages = await pulled.fetch(min(left, 64), timeout=5)
        for message in messages:
            count += len([decode(line) for line in message.data.split(b"\n")])
            await message.ack()
        left -= len(messages)
    tell("done", events=count, export_ns=exported_ns - began_ns, import_ns=time.monotonic_ns() - exported_ns)
    await client.close()


async def bare_trickle(given: dict[str, Any]) -> None:
    """Publish at a rate, and wait for the answer of each."""
    client = await nats.connect(given["servers"])
    jetstream = client.jetstream()
    await bare_stream(client, given)
    late_ms: list[float] = []

    async def one(due_ns: int) -> None:
        await jetstream.publish(SUBJECT, msgspec.json.encode(*deals(1, due_ns=due_ns)))
        late_ms.append((time.monotonic_ns() - due_ns) / 1e6)

    settle()
    tell("ready")
    await told()
    await at_a_rate(given["rate"], given["count"], one)
    tell("done", late_ms=late_ms)
    await told()
    await client.close()


async def bare_listen(given: dict[str, Any]) -> None:
    """Be handed each event by the server, and decode it."""
    client = await nats.connect(given["servers"])
    await bare_stream(client, given)
    decode, counted = msgspec.json.Decoder(Bare).decode, Counted(given["count"])

    async def hear(message: Msg) -> None:
        await counted.take(decode(message.data))

    settings = ConsumerConfig(ack_policy=AckPolicy.NONE)
    await client.jetstream().subscribe(SUBJECT, stream=STREAM, cb=hear, config=settings, manual_ack=True)
    settle()
    tell("ready")
    await counted.all()
    tell("done", late_ms=counted.late_ms)
    await told()
    await client.close()


ROLES = (
    fill,
    send,
    take,
    export,
    trickle,
    throw,
    hear,
    deliver,
    bare_send,
    bare_take,
    bare_export,
    bare_trickle,
    bare_listen,
)

if __name__ == "__main__":
    logging.getLogger("openoutcry").setLevel(logging.CRITICAL)  # else every long turn is told
    by_name = {role.__name__: role for role in ROLES}
    asyncio.run(by_name[sys.argv[1]](json.loads(sys.argv[2])))
