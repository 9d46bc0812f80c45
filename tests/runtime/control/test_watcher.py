"""The watcher beside real buses: in this process, killed, stopped, started again, and of another version."""

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from process_kit import start_python

from openoutcry import (
    ConfigError,
    EventBus,
    KillSwitchEvent,
    MarketDataEvent,
    PersistenceConfig,
)
from openoutcry.config import load_config
from openoutcry.errors import JournalDead, JournalFull
from openoutcry.events import OperatorAction
from openoutcry.journals import JournalReader
from openoutcry.runtime.control import watcher as watcher_module
from openoutcry.runtime.control.client import Answer, ask
from openoutcry.runtime.control.watcher import Watcher

LIMIT_S = 300
FIRM = """
import asyncio, sys
from openoutcry import EventBus

async def main():
    async with EventBus(control=sys.argv[1]) as bus:
        bus.subscribe("market_data", lambda _: None, name="momentum")
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scene()

    asyncio.run(go())


async def until(watcher: Watcher, is_so: Callable[[], bool]) -> None:
    seen = watcher.number
    while not is_so():
        seen = await watcher.changed(seen)


@asynccontextmanager
async def a_firm(path: Path, **settings: Any) -> Any:
    async with EventBus(control=path, **settings) as bus:
        bus.subscribe("market_data", lambda _: None, name="momentum")
        bus.subscribe("kill_switch", lambda _: None, name="risk")
        yield bus


def test_a_bus_without_a_journal_is_watched_at_its_control_socket(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with a_firm(path) as bus, Watcher(path, every_s=0.01) as watcher:
            await until(watcher, lambda: watcher.before is not None)
            assert (watcher.live, watcher.why, watcher.lives) == ("up", "", 1)
            assert watcher.shape is not None
            assert (watcher.shape.firm, watcher.shape.pid) == ("firm", os.getpid())
            await bus.publish(MarketDataEvent(symbol="ES", price=1.0))
            await until(watcher, lambda: watcher.pulse is not None and watcher.pulse.published == 1)
            found = await watcher.buckets([*(f"n-{number}" for number in range(40)), "momentum"])
            assert list(found) == ["momentum"]
            assert (await watcher.rounds()).released == []
            bus.subscribe("market_data", lambda _: None, name="late")
            await until(watcher, lambda: watcher.shape is not None and len(watcher.shape.subscriptions) == 3)
            assert watcher.pulse is not None
            assert watcher.pulse.shape == watcher.shape.number
        assert not path.exists()

    play(scene)


def test_a_bus_that_is_not_there_yet_is_noticed_when_it_comes_and_when_it_goes(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with Watcher(path, every_s=0.01) as watcher:
            await watcher.changed()
            assert watcher.live == "never"
            assert "no bus listens" in watcher.why
            with pytest.raises(ConnectionError, match="no bus listens"):
                await watcher.buckets(["momentum"])
            for life in (1, 2):
                async with a_firm(path):
                    await until(watcher, lambda: watcher.live == "up")
                    assert watcher.lives == life
                await until(watcher, lambda: watcher.live == "gone")
                assert watcher.pulse is not None

    play(scene)


def test_a_killed_bus_is_gone_at_once_and_its_next_life_is_another_session(tmp_path: Path) -> None:
    async def scene() -> None:
        path, loop = tmp_path / "firm.sock", asyncio.get_running_loop()
        process = await asyncio.to_thread(start_python, tmp_path, "-c", FIRM, str(path))
        try:
            async with Watcher(path) as watcher:
                await until(watcher, lambda: watcher.live == "up")
                assert watcher.shape is not None
                session = watcher.shape.session
                process.kill()
                killed_s = loop.time()
                await until(watcher, lambda: watcher.live == "gone")
                assert loop.time() - killed_s < watcher_module.STALL_S  # it did not take a time-out
                async with a_firm(path):  # the socket of the dead process is replaced
                    await until(watcher, lambda: watcher.live == "up")
                    assert watcher.shape.session != session
                    assert (watcher.lives, watcher.before) == (2, None)
        finally:
            process.kill()
            process.communicate()

    play(scene)


def test_a_stopped_bus_is_silent_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        process = await asyncio.to_thread(start_python, tmp_path, "-c", FIRM, str(path))
        try:
            async with Watcher(path) as watcher:
                await until(watcher, lambda: watcher.live == "up")
                process.send_signal(signal.SIGSTOP)
                await until(watcher, lambda: watcher.live == "silent")
                assert "stopped" in watcher.why
                pulse = watcher.pulse
                process.send_signal(signal.SIGCONT)
                await until(watcher, lambda: watcher.live == "up")
                assert pulse is not None
                await until(watcher, lambda: watcher.pulse is not pulse)
                assert watcher.pulse is not None
                assert watcher.pulse.session == pulse.session
                assert watcher.lives == 1
        finally:
            process.kill()
            process.communicate()

    play(scene)


def test_a_watcher_that_is_to_ask_more_often_asks_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        path, asked = tmp_path / "firm.sock", asyncio.Queue[str]()
        async with a_firm(path) as bus:
            shape = msgspec.json.encode(await bus.admin.shape())
            pulse = msgspec.json.encode(await bus.admin.pulse())

        def answer(request: dict[str, Any]) -> bytes:
            asked.put_nowait(request["verb"])
            return b'{"ok":true,"result":' + (pulse if request["verb"] == "pulse" else shape) + b"}\n"

        server = await standing_in(path, answer)
        async with server, Watcher(path, every_s=3_600) as watcher:
            assert [await asked.get(), await asked.get()] == ["pulse", "shape"]
            await until(watcher, lambda: watcher.live == "up")
            watcher.ask_every(0.001)
            for _ in range(3):
                assert await asked.get() == "pulse"
            server.close()

    play(scene)


def test_less_than_two_seconds_pass_until_a_bus_counts_as_silent() -> None:
    assert watcher_module.EVERY_LARGE_S + watcher_module.STALL_S < 2


async def standing_in(path: Path, answers: Callable[[dict[str, Any]], bytes | None]) -> asyncio.Server:
    """Serve a stand-in for a bus; None is no answer."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                said = answers(json.loads(line))
                if said is not None:
                    writer.write(said)
        finally:
            writer.transport.abort()

    return await asyncio.start_unix_server(talk, path)


@pytest.mark.parametrize(
    "said",
    [
        b'{"ok": false, "error": "ConfigError: verb = \'pulse\': known are ping"}\n',
        b'{"ok": true, "result": {"odd": 1}}\n',
        b"hello\n",
    ],
    ids=["no such verb", "another pulse", "no JSON"],
)
def test_a_bus_of_another_version_is_silent_and_says_why(tmp_path: Path, said: bytes) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        server = await standing_in(path, lambda _: said)
        async with server, Watcher(path, every_s=0.01) as watcher:
            await until(watcher, lambda: watcher.live == "silent")
            assert watcher.why
            assert watcher.pulse is None
            server.close()

    play(scene)


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"[1]\n", b"[" * 100_000 + b"\n", b"\xff\n"]
)
def test_what_is_no_bus_has_not_done_what_it_was_asked(tmp_path: Path, said: bytes) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        server = await standing_in(path, lambda _: said)
        async with server:
            answer = await asyncio.to_thread(ask, path, "halt", timeout_s=1.0)
            assert answer is not None
            assert not answer.ok
            assert answer.error.startswith(("ConnectionError: what listens at", "TimeoutError: "))
            server.close()

    play(scene)


def test_whoever_asks_a_stopped_bus_waits_while_its_queue_of_connections_is_full(tmp_path: Path) -> None:
    path = tmp_path / "firm.sock"
    with ExitStack() as opened:
        listening = opened.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(path))
        listening.listen(0)
        with suppress(BlockingIOError):
            while True:
                client = opened.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        answer = ask(path, "halt", timeout_s=0.05)
        assert answer is not None
        assert "did not answer within 0.05 s" in answer.error


def test_a_bus_whose_shape_is_always_another_one_is_not_told_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "UNMATCHED_S", 0.05)
    changes = False

    async def scene() -> None:
        path, other = tmp_path / "firm.sock", tmp_path / "other.sock"
        async with a_firm(other) as bus:
            shape, pulse = await bus.admin.shape(), await bus.admin.pulse()

        def answers(asked: dict[str, Any]) -> bytes:
            number = shape.number + changes
            made = {
                "shape": lambda: msgspec.structs.replace(shape, number=number),
                "pulse": lambda: msgspec.structs.replace(pulse, shape=number + changes),
            }
            return msgspec.json.encode({"ok": True, "result": made[asked["verb"]]()}) + b"\n"

        nonlocal changes
        server = await standing_in(path, answers)
        async with server, Watcher(path, every_s=0.01) as watcher:
            await until(watcher, lambda: watcher.live == "up")
            changes = True
            await until(watcher, lambda: watcher.live == "silent")
            changes = False
            await until(watcher, lambda: watcher.live == "up")
            server.close()

    play(scene)


def test_a_bus_that_hangs_is_asked_once_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "STALL_S", 0.05)
    asked: list[str] = []

    def never(request: dict[str, Any]) -> None:
        asked.append(request["verb"])

    async def scene() -> None:
        path = tmp_path / "firm.sock"
        server = await standing_in(path, never)
        watcher = Watcher(path, every_s=0.01)
        async with server:
            async with watcher:
                await until(watcher, lambda: watcher.live == "silent")
                await asyncio.sleep(0.2)
                assert asked == ["pulse"]
            server.close()

    play(scene)


def test_whoever_asks_a_hung_bus_is_told_in_time(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with a_firm(path) as bus, Watcher(path, every_s=0.01) as watcher:
            await until(watcher, lambda: watcher.live == "up")
            verbs = bus._lifecycle.control._server.verbs
            verbs["buckets"] = verbs["buckets"]._replace(do=lambda _bus, _asked: asyncio.sleep(LIMIT_S))
            with pytest.raises(ConnectionError, match="has not answered within"):
                await watcher.buckets(["momentum"], within_s=0.05)

    play(scene)


def test_a_watcher_that_is_left_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with a_firm(path) as bus:
            async with Watcher(path) as watcher:
                await until(watcher, lambda: watcher.live == "up")
            server = bus._lifecycle.control._server
            while server._talks:
                await asyncio.wait(set(server._talks))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    play(scene)


# -- the control socket of a bus without a journal ---------------------------------------------------


def test_two_buses_cannot_have_one_control_socket_and_the_first_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with a_firm(path):
            assert path.stat().st_mode & 0o777 == 0o600
            second = EventBus(control=path)
            with pytest.raises(ConfigError, match="another bus holds"):
                await second.start()
            assert not second.is_running
            assert await asyncio.to_thread(ask, path, "ping") == Answer(ok=True, result="pong")
        async with second:
            assert await asyncio.to_thread(ask, path, "ping") == Answer(ok=True, result="pong")

    play(scene)


def test_a_control_socket_where_something_else_is_keeps_the_bus_from_starting(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        path.write_text("notes")
        with pytest.raises(ConfigError, match="move it away, or give control another path"):
            await EventBus(control=path).start()
        assert path.read_text() == "notes"

    play(scene)


@pytest.mark.parametrize("control", ["", 7, b"firm.sock", "firm\0.sock"])
def test_a_control_socket_must_be_a_path(control: Any) -> None:
    with pytest.raises(ConfigError, match="control is"):
        EventBus(control=control)


def test_beside_a_journal_the_socket_has_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave control out"):
        EventBus(control=tmp_path / "a.sock", persistence_config=PersistenceConfig(path=tmp_path / "firm.db"))


def test_a_file_of_settings_may_name_the_control_socket(tmp_path: Path) -> None:
    settings = tmp_path / "firm.toml"
    settings.write_text('[bus]\ncontrol = "firm.sock"\n')
    assert load_config(settings).control == Path.cwd() / "firm.sock"
    assert EventBus(**load_config(settings).arguments()).config.control == Path.cwd() / "firm.sock"


# -- acting ------------------------------------------------------------------------------------------


def actions(found: list[Any]) -> list[tuple[str, str, str, str]]:
    return [
        (one.operator, one.verb, one.target, one.answer) for one in found if isinstance(one, OperatorAction)
    ]


def test_actions_wait_for_a_silent_bus_beside_each_other_and_can_be_given_up(tmp_path: Path) -> None:
    """None waits for another one to be sent, or would be sent later on."""

    async def scene() -> None:
        came: asyncio.Queue[bytes] = asyncio.Queue()
        left: asyncio.Queue[None] = asyncio.Queue()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.put_nowait(await reader.readline())
            await reader.read()
            writer.close()
            await writer.wait_closed()
            left.put_nowait(None)

        path = tmp_path / "firm.sock"
        async with await asyncio.start_unix_server(take, path):
            threads = threading.active_count()
            watcher = Watcher(path)
            acts = [asyncio.create_task(watcher.act("pause", subscription=f"s{n}")) for n in range(50)]
            assert len({await came.get() for _ in acts}) == len(acts)
            assert threading.active_count() == threads
            for act in acts:
                act.cancel()
            await asyncio.wait(acts)
            assert all(act.cancelled() for act in acts)
            late = await watcher.act("halt", timeout_s=0.01)
            assert late is not None
            assert not late.ok
            assert late.error.startswith("TimeoutError: ")
            for _ in (*acts, "late"):
                await left.get()
        assert await watcher.act("halt") is None

    play(scene)


def test_what_an_operator_does_and_is_refused_is_in_the_history_of_a_bus_without_a_journal(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with a_firm(path, control_releaser="boss", kill_switch_releasers=["ops"]) as bus:
            watcher = Watcher(path)
            halted = await watcher.act("halt", scope="ES", by="ann", via="page")
            assert halted is not None
            assert halted.ok
            assert (halted.result["total"], halted.result["heard"], halted.result["waiting"]) == (1, 1, [])
            (halt,) = bus.halted("ES")
            assert (halt.by, halt.reason) == ("ann", "halted by the operator")
            refused = await watcher.act("release", scope="ES", by="ann", reason="reviewed")
            assert refused is not None
            assert "NotAuthorised: 'ann' may not release" in refused.error
            assert await watcher.act("release", scope="ES", by="ops", reason="reviewed") == Answer(True, 1)
            assert not bus.halted("ES")
            await watcher.act("halt", scope="NQ")
            assert await watcher.act("release", scope="NQ", reason="reviewed") == Answer(True, 1)
            await watcher.act("pause", subscription="nobody")
            await watcher.act("pause", subscription="momentum", by="ann", reason="slow")
            published = bus.metrics.published
            found = bus.get_event_history(limit=100)
        told = actions(found)
        assert [row[1:3] for row in told] == [
            ("halt", "ES"),
            ("release", "ES"),
            ("release", "ES"),
            ("halt", "NQ"),
            ("release", "NQ"),
            ("pause", "nobody"),
            ("pause", "momentum"),
        ]
        assert told[0][0] == "ann"
        assert "NotAuthorised" in told[1][3]
        assert told[5][3].startswith("NotSubscribed")
        assert told[6] == ("ann", "pause", "momentum", "paused")
        first, last = (
            next(e for e in order if isinstance(e, OperatorAction)) for order in (found, found[::-1])
        )
        assert (first.via, first.user_id, first.process_id) == ("page", os.getuid(), os.getpid())
        assert (last.via, last.reason) == ("socket", "slow")
        assert published == 4  # two kill switches and two releases: records are nobody's publications

    play(scene)


def test_what_an_operator_does_is_in_the_journal(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.db"
        async with EventBus(persistence_config=PersistenceConfig(path=path)) as bus:
            bus.subscribe("kill_switch", lambda _: None, name="risk")
            watcher = Watcher(path)
            await watcher.act("halt", reason="drawdown", by="ann")
            await watcher.act("drop_dead_letters", letter_ids=list(range(1, 31)), by="ann")
            await bus.flush()
        with JournalReader(path) as reader:
            payloads = [entry.payload for entry in reader.read(0, 1_000)]
        texts = [payload for payload in payloads if b'"operator_action"' in payload]
        assert len(texts) == 2
        assert b"drawdown" in texts[0]
        assert b"letter_ids 1 2 3 4 5 6 7 8 9 10 and 20 more" in texts[1]

    play(scene)


def test_what_an_operator_does_is_not_lost_where_the_journal_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.db"
        async with EventBus(persistence_config=PersistenceConfig(path=path)) as bus:
            bus.subscribe("kill_switch", lambda _: None, name="risk")
            journal = bus._admission.store.journal

            def dead(*_: object) -> None:
                raise JournalDead("the disk is gone")

            monkeypatch.setattr(journal, "write", dead)
            watcher = Watcher(path)
            await watcher.act("halt", by="ann")
            await watcher.act("pause", by="ann", subscription="risk")
            found = actions(bus.get_event_history("operator_action"))
            assert [(who, verb) for who, verb, *_ in found] == [("ann", "halt"), ("ann", "pause")]
            assert "ann asked for pause of risk: paused" in caplog.text

    play(scene)
    assert "the journal has not taken 3 records" in caplog.text  # its start among them


def test_the_answer_to_an_operator_is_on_record_as_json(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with a_firm(path) as bus:
            await Watcher(path).act("halt")
            (found,) = actions(bus.get_event_history("operator_action"))
            assert json.loads(found[-1])["heard"] == 1

    play(scene)


HOSTILE: list[dict[str, Any]] = [
    {"verb": "halt", "scope": ""},
    {"verb": "halt", "scope": 7},
    {"verb": "halt", "who": "me"},
    {"verb": "halt", "via": "telephone"},
    {"verb": "release"},
    {"verb": "release", "reason": "x", "ids": "k-1"},
    {"verb": "release", "reason": "x", "ids": ["k-1"], "by": "boss"},
    {"verb": "pause"},
    {"verb": "pause", "subscription": ["momentum"]},
    {"verb": "pulse", "session": "another"},
    {"verb": "shape", "number": 3},
    {"verb": "buckets"},
    {"verb": "buckets", "names": "momentum"},
    {"verb": "buckets", "names": [None]},
    {"verb": "rounds", "since": "yesterday"},
    {"verb": "rounds", "since": -1},
    {"verb": "rounds", "since": 1.5},
]


@pytest.mark.parametrize("asked", HOSTILE, ids=lambda asked: json.dumps(asked)[:60])
def test_a_request_that_makes_no_sense_is_refused_and_does_nothing(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with a_firm(path, control_releaser="boss") as bus:
            answer = await asyncio.to_thread(ask, path, **asked)
            assert answer is not None
            assert not answer.ok
            assert answer.error.split(":")[0] in ("ConfigError", "InvalidEvent")
            assert not bus.halted()
            assert bus.subscription("momentum").state() == "idle"

    play(scene)


def test_what_hostile_names_and_reasons_say_is_kept_short(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with a_firm(path) as bus:
            answer = await asyncio.to_thread(ask, path, "halt", reason="\x1b[31m" * 5_000, by="y" * 9_000)
            assert answer is not None
            assert answer.ok
            (action,) = [e for e in bus.get_event_history() if isinstance(e, OperatorAction)]
            assert (len(action.reason), len(action.operator)) == (1_000, 1_000)
            (row,) = (await bus.admin.pulse()).halts
            assert len(row.reason) == len(row.by) == 300

    play(scene)


def test_a_kill_switch_that_the_journal_does_not_take_is_delivered_and_the_operator_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.db"
        async with EventBus(persistence_config=PersistenceConfig(path=path)) as bus:
            heard: list[KillSwitchEvent] = []
            bus.subscribe("kill_switch", heard.append, name="risk")
            journal = bus._admission.store.journal

            def full(*_: object) -> None:
                raise JournalFull("no room")

            with monkeypatch.context() as at:
                at.setattr(journal, "write", full)
                answer = await asyncio.to_thread(ask, path, "halt")
            assert answer is not None
            assert len(heard) == 1
            assert answer.ok, answer.error
            assert answer.result["heard"] == 1
            assert "JournalFull" in answer.result["problem"]

    play(scene)


def test_the_same_request_is_answered_at_once_from_a_pulse_that_was_made_a_moment_ago(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "firm.sock"
        async with a_firm(path):
            lines = [await asyncio.open_unix_connection(path, limit=2**24) for _ in range(4)]
            numbers = set()
            for _ in range(3):
                for reader, writer in lines:
                    writer.write(b'{"verb":"pulse"}\n')
                    numbers.add(msgspec.json.decode(await reader.readline())["result"]["number"])
            assert len(numbers) < 12
            reader, writer = lines[0]
            writer.write(b'{"verb":"pulse"}\n{"verb":"ping"}\n{"verb":"pu')  # in pieces and in a row
            await asyncio.sleep(0.01)
            writer.write(b'lse"}\n')
            said = [msgspec.json.decode(await reader.readline())["result"] for _ in range(3)]
            assert [type(one) for one in said] == [dict, str, dict]
            for _, writer in lines:
                writer.close()

    play(scene)
