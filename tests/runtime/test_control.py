"""The control server: a running bus's local socket, and what clients cannot do to it."""

import asyncio
import json
import os
import signal
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import uvloop

from openoutcry.config import PersistenceConfig
from openoutcry.core.holds import LIFTED_BY_RESUME
from openoutcry.core.letters import REDRIVE
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import ConfigError, JournalError, JournalLocked, NotAuthorised, NotSubscribed
from openoutcry.journals import JournalReader, SqliteJournal
from openoutcry.ports import BuriedEvent, Changes
from openoutcry.runtime.api.bus import EventBus
from openoutcry.runtime.control import server as server_module
from openoutcry.runtime.control.client import Answer, ask
from openoutcry.runtime.control.requests import VERBS, Plain, Verb, operating
from openoutcry.runtime.control.server import (
    CLIENTS_MAX,
    REQUEST_BYTES_MAX,
    WATCHERS_MAX,
    ControlServer,
    socket_path,
)
from openoutcry.runtime.delivery.causation import current
from openoutcry.trading import FillEvent, KillSwitchEvent, OrderSide

LIMIT_S = 300


def a_letter(letter_id: int) -> DeadLetter:
    return DeadLetter("risk", "normal", None, "failed", "", "", 1, 0, letter_id)


@dataclass
class StandIn:
    """A bus that notes what it is asked."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    async def read_status(self) -> dict[str, object]:
        return {"state": "running", "odd": Path("x")}

    def redrive(self, subscription: str | None = None, *, anew: bool = False, **conditions: Any) -> int:
        self.calls.append(("redrive", subscription, anew, conditions))
        return 3

    def drop_dead_letters(self, subscription: str | None = None, **conditions: Any) -> int:
        self.calls.append(("drop", subscription, conditions))
        return 2

    def dead_letters(
        self, subscription: str | None = None, *, limit: int | None = None, after: int = 0
    ) -> list[DeadLetter]:
        return [a_letter(number) for number in range(after + 1, 6)][:limit]

    def dead_letter_counts(self) -> dict[str, int]:
        return {"risk": 5, "gone": 2}

    @property
    def subscriptions(self) -> Any:
        return (SimpleNamespace(name="risk", holds=frozenset(LIFTED_BY_RESUME)),)

    @property
    def admin(self) -> "StandIn":
        return self

    async def cursors(self) -> list[dict[str, object]]:
        return [{"subscription": "risk", "lane": "normal", "floor": 4, "waiting": 1, "present": True}]

    async def drop_cursor(self, name: str) -> int:
        raise NotSubscribed(f"no cursor belongs to {name!r}")

    async def reassign_cursor(self, old: str, new: str) -> int:
        self.calls.append(("reassign", old, new))
        return 7

    def pause(self, name: str) -> str:
        self.calls.append(("pause", name))
        return "paused"

    def resume(self, name: str) -> str:
        self.calls.append(("resume", name))
        return "idle"

    async def flush(self) -> None:
        self.calls.append(("flush",))


@dataclass
class Open:
    """A control server that is open, its bus and its journal."""

    server: ControlServer
    bus: StandIn
    journal: Path

    async def ask(self, verb: str, **arguments: Any) -> Answer | None:
        return await asyncio.to_thread(ask, self.journal, verb, **arguments)

    async def talk(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.server.path))

    async def is_left(self) -> None:
        """Wait until the server talks to nobody."""
        while self.server._talks:
            await asyncio.wait(set(self.server._talks))

    async def is_well(self) -> bool:
        return await self.ask("ping") == Answer(ok=True, result="pong")


Scene = Callable[[Open], Awaitable[None]]


@asynccontextmanager
async def opened(journal: Path) -> Any:
    bus = StandIn()
    server = ControlServer(bus, journal)
    await server.start()
    try:
        yield Open(server, bus, journal)
    finally:
        await server.stop()


def play(journal: Path, scene: Scene, loop_factory: Any = None) -> None:
    """Run a scene at an open server, on a real loop and within a limit; nothing may be left when it ends."""

    async def go() -> None:
        async with asyncio.timeout(LIMIT_S), opened(journal) as at:
            await scene(at)
        assert not at.server.path.exists()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(go())


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "firm.db"


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


# -- what can be asked -------------------------------------------------------------------------------

NOTHING = {"letter_ids": None, "event_type": None, "since_ns": None, "until_ns": None}
ASKED: list[tuple[str, dict[str, Any], Any, list[tuple[Any, ...]]]] = [
    ("ping", {}, "pong", []),
    ("status", {}, {"state": "running", "odd": "x"}, []),
    ("redrive", {}, 3, [("redrive", None, False, NOTHING)]),
    ("redrive", {"anew": True}, 3, [("redrive", None, True, NOTHING)]),
    (
        "redrive",
        {"subscription": "risk", "letter_ids": [1, 2], "event_type": "fill", "since_ns": 5, "until_ns": 6},
        3,
        [
            (
                "redrive",
                "risk",
                False,
                {"letter_ids": [1, 2], "event_type": "fill", "since_ns": 5, "until_ns": 6},
            )
        ],
    ),
    (
        "drop_dead_letters",
        {"letter_ids": [4]},
        2,
        [("drop", None, {**NOTHING, "letter_ids": [4]}), ("flush",)],
    ),
    (
        "dead_letters",
        {"limit": 2, "after": 1},
        {
            "letters": [{**a_letter(number).to_dict(), "event": None} for number in (2, 3)],
            "total": 7,
            "next_after": 3,
        },
        [],
    ),
    (
        "dead_letters",
        {"subscription": "risk", "after": 4},
        {"letters": [{**a_letter(5).to_dict(), "event": None}], "total": 5, "next_after": None},
        [],
    ),
    (
        "dead_letter_counts",
        {},
        {"risk": {"count": 5, "subscribed": True}, "gone": {"count": 2, "subscribed": False}},
        [],
    ),
    (
        "cursors",
        {},
        [{"subscription": "risk", "lane": "normal", "floor": 4, "waiting": 1, "present": True}],
        [],
    ),
    ("reassign_cursor", {"old": "a", "new": "b"}, 7, [("reassign", "a", "b"), ("flush",)]),
    ("pause", {"subscription": "risk"}, "paused", [("pause", "risk")]),
    ("resume", {"subscription": "risk"}, "idle", [("resume", "risk")]),
    ("firm_drop", {"firm": "alpha", "desk": "street"}, True, []),  # these are only put on record
    ("firm_trim", {"firm": "alpha"}, True, []),
    ("flush", {}, True, [("flush",)]),
]


@pytest.mark.parametrize("loop_factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(("verb", "arguments", "result", "calls"), ASKED)
def test_a_request_reaches_the_bus_and_its_result_comes_back(
    journal: Path, verb: str, arguments: dict[str, Any], result: Any, calls: list[Any], loop_factory: Any
) -> None:
    async def scene(at: Open) -> None:
        assert await at.ask(verb, **arguments) == Answer(ok=True, result=result)
        assert at.bus.calls == calls

    play(journal, scene, loop_factory)


def test_every_verb_is_tried_here() -> None:
    assert {verb for verb, *_ in ASKED} | {"drop_cursor"} == set(VERBS)


def test_kill_switches_are_released_only_by_the_releaser_that_the_bus_was_given(journal: Path) -> None:
    """CONTRACT 36."""
    bus = EventBus(control_releaser="operator")
    with pytest.raises(NotAuthorised):
        bus.releaser("operator")

    async def scene(at: Open) -> None:
        asked = {"scope": "ES", "reason": "reviewed"}
        at.server.verbs.update(operating(EventBus()._lifecycle.control._operator))
        answer = await at.ask("release", **asked)
        assert answer is not None
        assert "control_releaser" in answer.error
        async with bus:
            await bus.publish(KillSwitchEvent(scope="ES"))
            await bus.publish(KillSwitchEvent(scope="ES", event_id="k-2"))
            at.server.verbs.update(operating(bus._lifecycle.control._operator))
            assert await at.ask("release", ids=["k-2"], reason="reviewed") == Answer(ok=True, result=1)
            assert len(bus.halted("ES")) == 1
            assert await at.ask("release", **asked) == Answer(ok=True, result=1)
            assert not bus.halted("ES")
            for wrong in ({"scope": "ES", "reason": ""}, {"ids": ["k-9"], "reason": "x"}, {"scope": "ES"}):
                answer = await at.ask("release", **wrong)
                assert answer is not None
                assert not answer.ok

    play(journal, scene)


def test_what_the_bus_refuses_comes_back_as_class_and_message(journal: Path) -> None:
    async def scene(at: Open) -> None:
        answer = await at.ask("drop_cursor", subscription="risk")
        assert answer == Answer(ok=False, error="NotSubscribed: no cursor belongs to 'risk'")

    play(journal, scene)


def test_a_control_server_takes_further_verbs(journal: Path) -> None:
    async def scene(at: Open) -> None:
        at.server.verbs["greet"] = Verb(Plain, lambda _bus, _asked: "good morning")
        assert await at.ask("greet") == Answer(ok=True, result="good morning")
        assert "greet" not in VERBS

    play(journal, scene)


def test_many_requests_go_through_one_connection(journal: Path) -> None:
    async def scene(at: Open) -> None:
        reader, writer = await at.talk()
        writer.write(b'{"verb": "ping"}\n{"verb": "flush"}\n{"verb": "ping"}')
        writer.write_eof()
        said = [json.loads(line)["result"] for line in (await reader.read()).splitlines()]
        assert said == ["pong", True, "pong"]
        await hang_up(writer)

    play(journal, scene)


def test_what_is_asked_at_the_socket_has_no_handler_as_its_cause(journal: Path) -> None:
    seen: list[object] = []

    async def scene(at: Open) -> None:
        at.server.verbs["who"] = Verb(Plain, lambda _bus, _asked: seen.append(current.get()))
        await at.ask("who")

    token = current.set(object())  # type: ignore[arg-type]
    try:
        play(journal, scene)
    finally:
        current.reset(token)
    assert seen == [None]


# -- what clients cannot do --------------------------------------------------------------------------

GARBAGE = [
    b"hello",
    b"",
    b"\x00\xff\xfe",
    b"[]",
    b"{}",
    b'{"verb": 7}',
    b'{"verb": "explode"}',
    b'{"verb": "redrive", "letter_ids": "all"}',
    b'{"verb": "redrive", "letter_ids": [1.5]}',
    b'{"verb": "drop_cursor"}',
    b'{"verb": "dead_letters", "limit": 0}',
    b"[" * 60_000,
    b'{"verb": "' + b"x" * 60_000 + b'"}',
    b'{"verb": "__class__"}',
]


@pytest.mark.parametrize("line", GARBAGE, ids=lambda line: line[:24].decode("latin-1"))
def test_garbage_is_answered_with_an_error_and_the_next_request_is_served(journal: Path, line: bytes) -> None:
    async def scene(at: Open) -> None:
        reader, writer = await at.talk()
        writer.write(line + b"\n" + b'{"verb": "ping"}\n')
        first = json.loads(await reader.readline())
        assert first["ok"] is False
        assert ": " in first["error"]
        assert len(first["error"]) < 500
        assert json.loads(await reader.readline()) == {"ok": True, "result": "pong"}
        assert at.bus.calls == []
        await hang_up(writer)

    play(journal, scene)


@pytest.mark.parametrize("verb", ["redrive", "drop_dead_letters"])
def test_a_condition_that_does_not_exist_is_refused_and_never_taken_for_none(
    journal: Path, verb: str
) -> None:
    async def scene(at: Open) -> None:
        answer = await at.ask(verb, subscribtion="risk")
        assert answer is not None
        assert not answer.ok
        assert "subscribtion" in answer.error
        assert at.bus.calls == []

    play(journal, scene)


def test_a_request_without_end_is_cut_off_and_others_are_served(journal: Path) -> None:
    async def scene(at: Open) -> None:
        reader, writer = await at.talk()
        writer.write(b"x" * (4 * REQUEST_BYTES_MAX))
        said = json.loads(await reader.readline())
        assert said == {"ok": False, "error": f"ConfigError: a request has at most {REQUEST_BYTES_MAX} bytes"}
        assert await at.is_well()
        await hang_up(writer)

    play(journal, scene)


def test_a_client_that_does_not_read_holds_nobody_up_and_is_cut_off(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SEND_S", 0.05)

    async def scene(at: Open) -> None:
        at.server.verbs["much"] = Verb(Plain, lambda _bus, _asked: "x" * 10_000_000)
        reader, writer = await at.talk()
        writer.write(b'{"verb": "much"}\n')
        assert await at.is_well()
        await at.is_left()
        assert len(await reader.read()) < 10_000_000
        assert await at.is_well()
        await hang_up(writer)

    play(journal, scene)


def test_a_client_that_says_nothing_is_cut_off(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_S", 0.02)

    async def scene(at: Open) -> None:
        reader, writer = await at.talk()
        assert await reader.read() == b""
        await hang_up(writer)

    play(journal, scene)


def test_clients_that_vanish_at_any_point_leave_nothing_behind(journal: Path) -> None:
    async def scene(at: Open) -> None:
        for said in (b"", b'{"verb": "pi', b'{"verb": "status"}\n' * 50):
            _, writer = await at.talk()
            writer.write(said)
            writer.transport.abort()
        assert await at.is_well()
        await at.is_left()

    play(journal, scene)


def test_one_client_too_many_takes_the_seat_of_the_one_that_is_idle_for_longest(journal: Path) -> None:
    async def scene(at: Open) -> None:
        there = [await at.talk() for _ in range(CLIENTS_MAX)]
        for reader, writer in there:
            writer.write(b'{"verb": "ping"}\n')
            await reader.readline()
        assert await at.is_well()
        reader, _ = there[0]
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        for reader, writer in there[2:]:
            writer.write(b'{"verb": "ping"}\n')
            assert await reader.readline()
        for _, writer in there:
            await hang_up(writer)
        await at.is_left()
        assert await at.is_well()

    play(journal, scene)


def test_whoever_is_being_answered_keeps_the_seat_and_one_too_many_is_sent_away(journal: Path) -> None:
    async def scene(at: Open) -> None:
        free, came, busy = asyncio.Event(), asyncio.Event(), []

        async def wait() -> bool:
            busy.append(1)
            came.set()
            return await free.wait()

        at.server.verbs["wait"] = Verb(Plain, lambda _bus, _asked: wait())
        there = [await at.talk() for _ in range(CLIENTS_MAX)]
        for _, writer in there:
            writer.write(b'{"verb": "wait"}\n')
        while len(busy) < CLIENTS_MAX:
            await came.wait()
            came.clear()
        answer = await at.ask("ping")
        assert answer is not None
        assert "try again" in answer.error
        free.set()
        for reader, writer in there:
            assert json.loads(await reader.readline())["ok"]
            await hang_up(writer)

    play(journal, scene)


def test_those_who_watch_leave_seats_for_those_who_act(journal: Path) -> None:
    async def scene(at: Open) -> None:
        at.server.verbs["look"] = Verb(Plain, lambda _bus, _asked: "seen", watches=True)
        there = [await at.talk() for _ in range(WATCHERS_MAX)]
        for reader, writer in there:
            writer.write(b'{"verb": "look"}\n')
            assert json.loads(await reader.readline())["ok"]
        answer = await at.ask("look")
        assert answer is not None
        assert f"{WATCHERS_MAX} clients watch this bus already" in answer.error
        idle = [await at.talk() for _ in range(CLIENTS_MAX)]  # more than there are seats
        for _ in range(3):
            assert await at.ask("pause", subscription="risk") == Answer(ok=True, result="paused")
        for reader, writer in there:  # none of them has lost its seat
            writer.write(b'{"verb": "look"}\n')
            assert json.loads(await reader.readline())["ok"]
        for _, writer in (*there, *idle):
            await hang_up(writer)

    play(journal, scene)


def test_a_verb_that_does_not_end_is_given_up(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CALL_S", 0.02)

    async def scene(at: Open) -> None:
        at.server.verbs["wait"] = Verb(Plain, lambda _bus, _asked: asyncio.Event().wait())
        answer = await at.ask("wait")
        assert answer is not None
        assert answer.error.startswith("TimeoutError: ")
        assert await at.is_well()

    play(journal, scene)


@pytest.mark.parametrize("result", [object(), {1, 2}, float("nan"), {(1, 2): 3}, b"\xff"], ids=repr)
def test_a_result_that_is_hardly_json_harms_nobody(journal: Path, result: object) -> None:
    async def scene(at: Open) -> None:
        at.server.verbs["odd"] = Verb(Plain, lambda _bus, _asked: result)
        assert await at.ask("odd") is not None
        assert await at.is_well()

    play(journal, scene)


# -- the socket --------------------------------------------------------------------------------------


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_the_socket_is_for_its_owner_alone_whatever_the_umask(journal: Path, open_umask: None) -> None:
    async def scene(at: Open) -> None:
        assert stat.S_IMODE(at.server.path.stat().st_mode) == 0o600

    play(journal, scene)


def test_the_socket_of_a_dead_process_is_replaced(journal: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path(journal)))
    assert ask(journal, "ping") is None

    async def scene(at: Open) -> None:
        assert await at.is_well()

    play(journal, scene)


def test_a_socket_that_nobody_serves_any_more_is_replaced(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_PROBE_S", 0.05)

    async def scene(at: Open) -> None:
        assert await at.is_well()

    with socket.socket(socket.AF_UNIX) as orphan:
        orphan.bind(str(socket_path(journal)))
        orphan.listen()
        play(journal, scene)


def test_the_socket_of_a_living_bus_is_respected(journal: Path) -> None:
    async def scene(at: Open) -> None:
        second = ControlServer(StandIn(), journal)
        with pytest.raises(JournalLocked, match="another bus answers"):
            await second.start()
        await second.stop()
        assert await at.is_well()

    play(journal, scene)


def test_a_file_in_the_way_is_not_touched(journal: Path) -> None:
    socket_path(journal).write_text("mine")

    async def go() -> None:
        with pytest.raises(JournalError, match="something else"):
            await ControlServer(StandIn(), journal).start()

    asyncio.run(go())
    assert socket_path(journal).read_text() == "mine"


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    async def go() -> None:
        with pytest.raises(JournalError, match="cannot be made"):
            await ControlServer(StandIn(), tmp_path / "nowhere" / "firm.db").start()

    asyncio.run(go())


def test_stopping_leaves_a_socket_alone_that_somebody_else_has_put_there(journal: Path) -> None:
    async def go() -> None:
        server = ControlServer(StandIn(), journal)
        await server.start()
        server.path.unlink()
        server.path.write_text("not ours")
        await server.stop()

    asyncio.run(go())
    assert socket_path(journal).read_text() == "not ours"


def test_starting_and_stopping_twice_is_harmless_and_a_stopped_server_starts_again(journal: Path) -> None:
    async def go() -> None:
        server = ControlServer(StandIn(), journal)
        await server.stop()
        for _ in range(2):
            await server.start()
            await server.start()
            assert await asyncio.to_thread(ask, journal, "ping") == Answer(ok=True, result="pong")
            await server.stop()
            await server.stop()
            assert await asyncio.to_thread(ask, journal, "ping") is None

    asyncio.run(go())


def test_stopping_cuts_clients_off_in_the_middle_of_a_request(journal: Path) -> None:
    async def go() -> None:
        server = ControlServer(StandIn(), journal)
        begun = asyncio.Event()

        async def wait() -> None:
            begun.set()
            await asyncio.Event().wait()

        server.verbs["wait"] = Verb(Plain, lambda _bus, _asked: wait())
        await server.start()
        asked = asyncio.create_task(asyncio.to_thread(ask, journal, "wait"))
        await begun.wait()
        await server.stop()
        answer = await asked
        assert answer is not None
        assert answer.error.startswith("ConnectionError: ")

    asyncio.run(go())


@pytest.mark.parametrize("loop_factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_path_too_long_for_a_socket_works_all_the_same(tmp_path: Path, loop_factory: Any) -> None:
    folder = tmp_path / ("a" * 100) / ("b" * 100)
    folder.mkdir(parents=True)

    async def scene(at: Open) -> None:
        assert len(os.fsencode(at.server.path)) > 200
        assert stat.S_IMODE(at.server.path.stat().st_mode) == 0o600
        assert await at.is_well()
        with pytest.raises(JournalLocked):
            await ControlServer(StandIn(), at.journal).start()

    play(folder / ("c" * 200 + ".db"), scene, loop_factory)
    play(folder / "firm.db", scene, loop_factory)
    assert list(folder.iterdir()) == []


def test_a_path_too_long_where_it_cannot_be_shortened_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module.sys, "platform", "darwin")  # type: ignore[attr-defined]
    with (
        pytest.raises(ConfigError, match="shorter path"),
        server_module.address_of(tmp_path / ("a" * 200) / "f-sock"),
    ):
        pass


def test_a_journal_has_one_socket_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "firm.db")
    monkeypatch.chdir(tmp_path)
    names = [tmp_path / "firm.db", tmp_path / "link.db", Path("firm.db"), Path("x/../firm.db")]
    assert {socket_path(name) for name in names} == {tmp_path / "firm.db-sock"}


def test_a_forked_child_does_not_keep_the_socket_of_its_dead_parent_alive(journal: Path) -> None:
    async def go() -> int:
        server = ControlServer(StandIn(), journal)
        await server.start()
        there, here = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(here, b"x")
            signal.pause()
            os._exit(1)
        os.read(there, 1)
        os.close(there)
        os.close(here)
        kept = server.path.rename(server.path.with_name("kept"))  # the name stays, as after SIGKILL
        await server.stop()
        kept.rename(socket_path(journal))
        return child

    child = asyncio.run(go())
    try:
        assert ask(journal, "ping") is None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# -- a real bus --------------------------------------------------------------------------------------


class Risk:
    """An agent that cannot handle fills until it is mended."""

    def __init__(self) -> None:
        self.is_mended = False
        self.seen: list[str] = []

    async def check(self, fill: FillEvent) -> None:
        if not self.is_mended:
            raise KeyError(fill.order_id)
        self.seen.append(fill.order_id)


@asynccontextmanager
async def firm(journal: Path, risk: Risk) -> Any:
    """A bus on a journal, with a control server of its own."""
    settings = PersistenceConfig(path=journal, socket=False)
    bus = EventBus(enable_persistence=True, persistence_config=settings)
    bus.subscribe(FillEvent, risk.check, name="risk", retry=False, breaker=False)
    await bus.start()
    server = ControlServer(bus, journal)
    await server.start()
    try:
        yield bus
    finally:
        await server.stop()
        await bus.stop()


async def publish_fills(bus: EventBus, *order_ids: str) -> None:
    for order_id in order_ids:
        await bus.publish(
            FillEvent(order_id=order_id, symbol="ES", side=OrderSide.BUY, filled_quantity=1.0, fill_price=2.0)
        )
    await bus.join()


def letters_in(journal: Path) -> list[BuriedEvent]:
    with JournalReader(journal) as reader:
        return reader.buried()


def test_letters_of_a_real_bus_are_listed_redriven_and_dropped_for_good(journal: Path) -> None:
    async def go() -> None:
        risk = Risk()

        async def asked(verb: str, **arguments: Any) -> Any:
            answer = await asyncio.to_thread(ask, journal, verb, **arguments)
            assert answer is not None
            assert answer.ok, answer.error
            return answer.result

        async with firm(journal, risk) as bus:
            await publish_fills(bus, "o1", "o2", "o3")
            letters = (await asked("dead_letters"))["letters"]
            assert [letter["event"]["order_id"] for letter in letters] == ["o1", "o2", "o3"]
            risk.is_mended = True
            assert await asked("redrive", letter_ids=[letters[0]["letter_id"]]) == 1
            await bus.join()
            assert risk.seen == ["o1"]
            assert await asked("drop_dead_letters", letter_ids=[letters[1]["letter_id"]]) == 1
            assert [letter.letter_id for letter in letters_in(journal)] == [letters[2]["letter_id"]]
            assert await asked("pause", subscription="risk") == "paused"
            assert await asked("resume", subscription="risk") != "paused"
            assert (await asked("status"))["state"] == "running"
            assert await asked("flush") is True

    asyncio.run(go())


def test_letters_that_were_marked_while_no_bus_ran_are_redriven_at_the_next_start(journal: Path) -> None:
    risk = Risk()

    async def fail() -> None:
        async with firm(journal, risk) as bus:
            await publish_fills(bus, "o1", "o2")

    async def start_again() -> None:
        async with firm(journal, risk) as bus:
            await bus.join()

    asyncio.run(fail())
    marked = [letter for letter in letters_in(journal) if b"o2" in letter.payload]
    assert len(marked) == 1
    with SqliteJournal(journal) as offline:
        offline.write(
            (),
            Changes(
                buried=[msgspec.structs.replace(letter, reason=REDRIVE, letter_id=0) for letter in marked],
                removed_letters=[letter.letter_id for letter in marked],
            ),
        )
    risk.is_mended = True
    asyncio.run(start_again())
    assert risk.seen == ["o2"]
    assert [b"o1" in letter.payload for letter in letters_in(journal)] == [True]


# -- the client --------------------------------------------------------------------------------------


def test_nobody_there_is_no_answer(journal: Path) -> None:
    assert ask(journal, "ping") is None


def test_a_bus_that_does_not_answer_is_said_to_be_blocked(journal: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(socket_path(journal)))
        mute.listen()
        answer = ask(journal, "ping", timeout_s=0.05)
    assert answer is not None
    assert "did not answer within 0.05 s" in answer.error
