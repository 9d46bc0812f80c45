"""One poller, many tabs: what a tab is told, and what a slow or an old one is told instead."""

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from page_kit import LOOK, Client, clock, firm, served

from openoutcry import EventBus, SignalEvent
from openoutcry.dashboard import hub as hubs
from openoutcry.dashboard.hub import ALONE_S, BEAT_S, QUEUE_MAX, TABS_MAX, Hub, Tab, plain
from openoutcry.dashboard.refusals import Refused
from openoutcry.dashboard.server import Page
from openoutcry.observers.pulse import Flow, Pulse, RoundRow, RoundsSeen, Shape, SubRow, SubShape
from openoutcry.runtime.control.watcher import EVERY_S
from openoutcry.testing import run_virtual

FOREVER_NS = 2**62


def of(kind: type, **given: Any) -> Any:
    """Make a struct of zeros and empty things, but for what is given."""
    nothing = {int: 0, str: "", bool: False, float: 0.0}
    made = {}
    for field in msgspec.structs.fields(kind):
        origin = getattr(field.type, "__origin__", field.type)
        made[field.name] = (
            nothing[origin] if origin in nothing else origin() if origin in (list, dict) else None
        )
    return kind(**{**made, **given})


class Firm:
    """What a watcher knows, and says when it is told to."""

    def __init__(self) -> None:
        self.path = Path("firm.db")
        self.live, self.since_ns, self.why, self.lives = "never", 1, "no bus listens yet", 0
        self.shape: Shape | None = None
        self.pulse: Pulse | None = None
        self.before: Pulse | None = None
        self.number = 0
        self.seen = RoundsSeen("one", [], 0, [], 0)
        self.asked: list[int] = []
        self.every_s = 0.0
        self.refuses = False
        self._news = asyncio.Event()

    def ask_every(self, every_s: float) -> None:
        self.every_s = every_s

    async def changed(self, after: int = 0) -> int:
        while self.number <= after:
            self._news.clear()
            await self._news.wait()
        return self.number

    async def rounds(self, since: int = 0, *, within_s: float = 1.0) -> RoundsSeen:
        self.asked.append(since)
        if self.refuses:
            raise ConnectionError("no answer")
        return self.seen

    def up(self, session: str = "one") -> None:
        self.live, self.why, self.lives = "up", "", self.lives + 1
        self.shape = of(
            Shape, number=1, session=session, firm="firm", subscriptions=[of(SubShape, name="desk")]
        )

    def beat(self, **given: Any) -> None:
        assert self.shape is not None
        self.before = self.pulse
        number = 1 if self.pulse is None else self.pulse.number + 1
        told = {"state": "running", "ledger_balances": True, "rows": [of(SubRow, index=0)], **given}
        self.pulse = of(Pulse, shape=1, session=self.shape.session, number=number, **told)
        self.tell()

    def tell(self) -> None:
        self.number += 1
        self._news.set()


class Reader:
    """A tab, read when the test says so."""

    def __init__(
        self, hub: Hub, last_id: str = "", *, wants_tail: bool = False, until_ns: int = FOREVER_NS
    ) -> None:
        self.stack = ExitStack()
        self.tab: Tab = self.stack.enter_context(hub.tab(until_ns, last_id, wants_tail=wants_tail))

    async def read(self) -> list[tuple[str, Any]]:
        found = await self.tab.next()
        assert found is not None
        return [
            (
                message.split(b"event: ")[1].split(b"\n")[0].decode(),
                msgspec.json.decode(message.split(b"data: ")[1]),
            )
            for message in found.split(b"\n\n")[:-1]
        ]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def run(test: Any, **more: Any) -> None:
    """Run a test with a hub that works, in virtual time."""

    async def main() -> None:
        watched = Firm()
        hub = Hub(watched, more.pop("clock", clock()), more.pop("tail", None))  # type: ignore[arg-type]
        task = asyncio.create_task(hub.run())
        try:
            await test(hub, watched)
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled()

    run_virtual(main())


def test_a_new_tab_is_told_what_is_true_now():
    async def test(hub: Hub, watched: Firm) -> None:
        assert [event for event, _ in await Reader(hub).read()] == ["state"]
        watched.up()
        watched.beat(flows=[Flow("desk", "order", 2)])
        await settle()
        (state, shape, pulse) = await Reader(hub).read()
        assert state[1]["live"] == "up"
        assert (shape[0], shape[1]["firm"], shape[1]["edges"]) == ("shape", "firm", [["desk", "order"]])
        assert (pulse[0], pulse[1]["rows"]["desk"]["accepted"], pulse[1]["wrong"]) == ("pulse", 0, [])

    run(test)


def test_while_no_tab_is_open_the_firm_is_asked_rarely():
    async def test(hub: Hub, watched: Firm) -> None:
        assert watched.every_s == ALONE_S
        first, second = Reader(hub), Reader(hub)
        assert watched.every_s == EVERY_S
        first.stack.close()
        assert watched.every_s == EVERY_S
        second.stack.close()
        assert watched.every_s == ALONE_S

    run(test)


def test_a_tab_that_does_not_read_gets_the_newest():
    async def test(hub: Hub, watched: Firm) -> None:
        watched.up()
        slow = Reader(hub)
        for _ in range(100):
            watched.beat()
            await settle()
        told = await slow.read()
        assert len(told) <= QUEUE_MAX + 4
        events = [event for event, _ in told]
        assert {"state", "shape", "pulse"} <= set(events)
        numbers = [data["number"] for event, data in told if event == "pulse"]
        assert numbers == sorted(numbers)
        assert numbers[-1] == 100
        assert numbers[0] > 100 - QUEUE_MAX - 1

    run(test)


def test_a_tab_that_reads_is_told_every_pulse():
    async def test(hub: Hub, watched: Firm) -> None:
        watched.up()
        tab, numbers = Reader(hub), []
        for _ in range(20):
            watched.beat()
            await settle()
            numbers += [data["number"] for event, data in await tab.read() if event == "pulse"]
        assert numbers == list(range(1, 21))

    run(test)


def test_there_are_thirty_two_tabs_and_no_more():
    async def test(hub: Hub, _watched: Firm) -> None:
        tabs = [Reader(hub) for _ in range(TABS_MAX)]
        with pytest.raises(Refused, match="close one") as refused:
            Reader(hub)
        assert refused.value.status == 503
        tabs[0].stack.close()
        Reader(hub)

    run(test)


def test_while_no_pulse_comes_a_tab_hears_every_second_that_the_page_lives():
    async def test(hub: Hub, watched: Firm) -> None:
        watched.up()
        watched.beat()
        await settle()
        tab = Reader(hub)
        await tab.read()
        watched.live, watched.why = "silent", "it has not answered"
        watched.tell()
        await settle()
        assert [(event, data["live"]) for event, data in await tab.read()] == [("state", "silent")]
        began_s = asyncio.get_running_loop().time()
        for _ in range(3):
            assert [event for event, _ in await tab.read()] == ["state"]
        assert asyncio.get_running_loop().time() - began_s <= 3 * BEAT_S + 0.01

    run(test)


def test_a_new_life_of_the_firm_begins_with_its_own_shape():
    async def test(hub: Hub, watched: Firm) -> None:
        watched.up()
        watched.beat(flows=[Flow("desk", "order", 2)])
        await settle()
        tab = Reader(hub)
        await tab.read()
        watched.live, watched.why = "gone", "the bus has hung up"
        watched.tell()
        await settle()
        watched.up("two")
        watched.pulse = None
        watched.beat()
        await settle()
        told = await tab.read()
        assert [event for event, _ in told] == ["state", "state", "shape", "pulse"]
        assert (told[2][1]["session"], told[2][1]["edges"]) == ("two", [])

    run(test)


def test_the_stream_of_a_session_ends_with_it():
    time = clock()

    async def test(hub: Hub, _watched: Firm) -> None:
        tab = Reader(hub, until_ns=time.now_ns() + 5)
        await tab.read()
        time.advance(5)
        while await tab.tab.next() is not None:
            pass
        assert tab.tab.is_closed

    run(test, clock=time)


def test_a_stop_ends_every_tab_and_opens_none():
    async def test(hub: Hub, _watched: Firm) -> None:
        tabs = [Reader(hub) for _ in range(3)]
        hub.stop()
        assert [await tab.tab.next() for tab in tabs] == [None] * 3
        with pytest.raises(Refused, match="being stopped"):
            Reader(hub)

    run(test)


def test_rounds_are_asked_for_while_there_are_tabs_and_news_and_come_again_to_who_missed_them():
    async def test(hub: Hub, watched: Firm) -> None:
        watched.up()
        watched.beat(rounds_number=0)
        await settle()
        assert watched.asked == []  # nobody looks
        tab = Reader(hub)
        watched.seen = RoundsSeen("one", [], 0, [of(RoundRow, number=1, id="r1")], 1)
        watched.beat(rounds_number=1)
        await settle()
        told = dict(await tab.read())
        assert [row["id"] for row in told["rounds"]["released"]] == ["r1"]
        last_id = f"{hub._number}"
        watched.seen = RoundsSeen("one", [], 0, [of(RoundRow, number=2, id="r2")], 2)
        watched.beat(rounds_number=2)
        await settle()
        again = dict(await Reader(hub, last_id).read())
        assert [row["id"] for row in again["rounds"]["released"]] == ["r2"]
        anew = dict(await Reader(hub).read())
        assert [row["id"] for row in anew["rounds"]["released"]] == ["r1", "r2"]
        count = len(watched.asked)
        watched.beat(rounds_number=2)
        await settle()
        assert len(watched.asked) == count  # nothing new

    run(test)


def test_a_bus_that_does_not_tell_its_rounds_keeps_nothing_else_back():
    async def test(hub: Hub, watched: Firm) -> None:
        watched.refuses = True
        watched.up()
        tab = Reader(hub)
        for number in (1, 2):
            watched.beat(rounds_number=number)
            await settle()
        assert [event for event, _ in await tab.read()].count("pulse") == 2

    run(test)


def test_only_who_asks_for_the_tail_is_told_it():
    news = [{"events": [1]}, None, {"events": [2]}]

    async def tail() -> Any:
        return news.pop(0) if news else None

    async def test(hub: Hub, watched: Firm) -> None:
        watched.up()
        one, other = Reader(hub, wants_tail=True), Reader(hub)
        told: list[Any] = []
        for _ in range(3):
            watched.beat()
            await settle()
            told += [data["events"] for event, data in await one.read() if event == "events"]
        assert told == [[1], [2]]
        assert "events" not in dict(await other.read())

    run(test, tail=tail)


def test_the_arrows_that_were_seen_are_bounded(monkeypatch):
    monkeypatch.setattr(hubs, "EDGES_MAX", 3)

    async def test(hub: Hub, watched: Firm) -> None:
        watched.up()
        for number in range(10):
            watched.beat(flows=[Flow(f"agent {number}", "order", 1)])
            await settle()
        shape = dict(await Reader(hub).read())["shape"]
        assert shape["edges"] == [[f"agent {number}", "order"] for number in (7, 8, 9)]

    run(test)


def test_fields_of_arrays_have_names():
    assert plain(of(SubRow, index=3))["index"] == 3
    assert plain([Flow("a", "b", 1)]) == [{"source": "a", "type": "b", "count": 1}]


# -- over real HTTP, with a real firm ------------------------------------------------------------------


@pytest.fixture
def live(tmp_path: Path):
    def prepare(bus: EventBus) -> None:
        bus.subscribe("signal", lambda _event: None, name="desk")

    path = tmp_path / "firm.db"
    with firm(path, prepare) as bus, served(path, tmp_path) as client:
        yield SimpleNamespace(bus=bus, client=client.log_in(LOOK))


def test_a_stream_has_pulses_and_what_is_published(live):
    with live.client.stream("?tail=1") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
        assert "desk" in stream.until("pulse")["rows"]
        stream.until("pulse")
        signal = SignalEvent(symbol="ES", direction="long", strategy_name="trend", confidence=0.5)
        assert live.bus.publish_threadsafe(signal).result(300)
        told = stream.until("events", lambda said: any(one["type"] == "signal" for one in said["events"]))
        assert [event["id"] for event in told["events"] if event["type"] == "signal"] == [signal.event_id]


def test_the_thirty_third_tab_is_refused_and_one_that_closes_makes_room(live):
    client: Client = live.client
    with ExitStack() as stack:
        streams = [stack.enter_context(client.stream()) for _ in range(TABS_MAX)]
        assert {stream.status for stream in streams} == {200}
        with client.stream() as stream:
            assert stream.status == 503
    for _ in range(1_000):  # the page notices that they are gone
        with client.stream() as stream:
            if stream.status == 200:
                return
    pytest.fail("no tab was given back")


def test_tabs_that_never_read_keep_nobody_from_reading(live):
    client: Client = live.client
    with ExitStack() as stack:
        for _ in range(8):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", client.port)))
            line.sendall(
                f"GET /api/stream HTTP/1.1\r\nHost: {client.host}\r\nCookie: {client.cookie}\r\n\r\n".encode()
            )
        with client.stream() as stream:
            numbers = [stream.until("pulse")["number"] for _ in range(3)]
        assert numbers == sorted(numbers)


def test_a_page_stops_with_tabs_open(tmp_path: Path, journal: Path):
    with ExitStack() as stack:
        with served(journal, tmp_path) as client:
            client.log_in(LOOK)
            open_tabs = [stack.enter_context(client.stream()) for _ in range(4)]
        for stream in open_tabs:
            list(stream)  # it ends


def test_a_page_can_be_made_and_not_served(tmp_path: Path, journal: Path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        page = Page(journal, listener, {})
        assert page.url.startswith("http://127.0.0.1:")
