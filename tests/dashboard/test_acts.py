"""What an operator does on the page reaches the firm, in the operator's name, or is refused in a sentence."""

from pathlib import Path
from typing import Any

from page_kit import ACT, LOOK, Client, firm, served
from tests.thread_kit import LIMIT_S

from openoutcry import NO_RETRY, EventBus, SignalEvent
from openoutcry.dashboard import acts, journal_file
from openoutcry.runtime.control.watcher import Watcher
from openoutcry.runtime.delivery import dead_letters as letters


def signal(number: int) -> SignalEvent:
    return SignalEvent(
        event_id=f"signal-{number}", symbol="ES", direction="long", strategy_name="trend", confidence=0.5
    )


class Mended:
    """A handler that fails until it is mended."""

    def __init__(self) -> None:
        self.is_mended = False
        self.handled: list[str] = []

    def __call__(self, event: Any) -> None:
        if not self.is_mended:
            raise ValueError("no account")
        self.handled.append(event.event_id)


def prepare(books: Mended) -> Any:
    def subscribe(bus: EventBus) -> None:
        bus.subscribe("signal", books, name="books", retry=NO_RETRY, breaker=False)
        bus.subscribe("kill_switch", lambda _event: None, name="risk")

    return subscribe


def bury(bus: EventBus, client: Client, count: int) -> None:
    """Publish what fails, and wait until the page knows of the letters."""
    for number in range(count):
        assert bus.publish_threadsafe(signal(number)).result(LIMIT_S)
    wait_for(client, lambda: client.get("/api/dead").json["total"] == count)


def wait_for(client: Client, is_so: Any) -> None:
    """Wait for something, from one pulse of the firm to the next."""
    if is_so():
        return
    with client.stream() as stream:
        for _ in stream:
            if is_so():
                return


def actions(client: Client) -> list[tuple[str, str, str, str]]:
    said = client.get("/api/journal").json["actions"]
    return [(action["operator"], action["via"], action["verb"], action["reason"]) for action in said]


def test_a_halt_is_heard_and_released_in_the_operators_name(tmp_path: Path):
    path = tmp_path / "firm.db"
    with (
        firm(path, prepare(Mended()), kill_switch_releasers=["risk", "ada"]),
        served(path, tmp_path) as client,
    ):
        client.log_in(ACT)
        halted = client.post("/api/halt", {"scope": "firm", "reason": "drill"})
        assert halted.status == 200
        assert halted.json["result"]["total"] == 1
        with client.stream() as stream:
            pulse = stream.until("pulse", lambda pulse: pulse["halts_count"] == 1)
        assert (pulse["halts"][0]["by"], pulse["halts"][0]["reason"]) == ("ada", "drill")
        refused = client.post("/api/release", {"scope": "firm", "reason": "reviewed", "by": "mallory"})
        assert (refused.status, "NotAuthorised" in refused.error) == (403, True)
        assert client.post("/api/release", {"scope": "firm", "reason": " "}).status == 400
        assert client.post("/api/release", {"scope": "firm", "reason": "reviewed"}).status == 200
        with client.stream() as stream:
            stream.until("pulse", lambda pulse: pulse["halts_count"] == 0)
        wait_for(client, lambda: len(actions(client)) == 3)
        assert actions(client)[::2] == [
            ("ada", "page", "release", "reviewed"),
            ("ada", "page", "halt", "drill"),
        ]


def test_a_subscription_is_paused_and_resumed(tmp_path: Path):
    path = tmp_path / "firm.db"
    with firm(path, prepare(Mended())), served(path, tmp_path) as client:
        client.log_in(ACT)
        assert client.post("/api/pause", {"subscription": "books"}).json == {"result": "paused"}
        with client.stream() as stream:
            stream.until("pulse", lambda pulse: pulse["rows"]["books"]["state"] == "paused")
        assert client.post("/api/resume", {"subscription": "books"}).status == 200
        unknown = client.post("/api/pause", {"subscription": "nobody"})
        assert (unknown.status in (400, 409), "nobody" in unknown.error) == (True, True)


def test_a_mended_dead_letter_is_redriven_one_first_and_then_the_group(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(acts, "LETTERS_AT_ONCE", 2)
    path, books = tmp_path / "firm.db", Mended()
    with firm(path, prepare(books)) as bus, served(path, tmp_path) as client:
        client.log_in(ACT)
        bury(bus, client, 6)
        (group,) = client.get("/api/dead").json["groups"]
        chosen = {"subscription": "books", "error": group["error"]}
        books.is_mended = True
        assert client.post("/api/redrive", {**chosen, "one": True}).json == {"result": 1}
        wait_for(client, lambda: client.get("/api/dead").json["total"] == 5)
        assert books.handled == ["signal-0"]
        assert client.post("/api/redrive", chosen).json == {"result": 5}
        wait_for(client, lambda: client.get("/api/dead").json["total"] == 0)
        wait_for(client, lambda: len(books.handled) == 6)
        gone = client.post("/api/redrive", chosen)
        assert (gone.status, "no such dead letter" in gone.error) == (409, True)


def test_dead_letters_are_dropped_for_a_reason(tmp_path: Path):
    path = tmp_path / "firm.db"
    with firm(path, prepare(Mended())) as bus, served(path, tmp_path) as client:
        client.log_in(ACT)
        bury(bus, client, 3)
        assert client.post("/api/drop", {"subscription": "books"}).status == 400
        assert client.post("/api/drop", {"subscription": "books", "reason": ""}).status == 400
        other = client.post("/api/drop", {"subscription": "books", "error": "another", "reason": "known"})
        assert other.status == 409
        assert client.post("/api/drop", {"subscription": "books", "reason": "known"}).json == {"result": 3}
        assert client.get("/api/dead").json["total"] == 0
        wait_for(client, lambda: ("ada", "page", "drop_dead_letters", "known") in actions(client))
        (newest, *_) = client.get("/api/journal").json["actions"]
        assert (newest["target"], newest["answer"]) == ("books", "3 letters dropped")
        assert newest["said"] == "ada, page: drop dead letters books (known): 3 letters dropped"


def test_a_firm_without_a_journal_is_served_from_its_socket(tmp_path: Path):
    path, books = tmp_path / "firm.sock", Mended()
    with firm(None, prepare(books), control=path) as bus, served(path, tmp_path) as client:
        client.log_in(ACT)
        bury(bus, client, 2)
        said = client.get("/api/dead").json
        assert (said["where"], said["groups"][0]["count"]) == ("memory", 2)
        assert "signal-" in said["groups"][0]["example"]["event"]
        assert client.get("/api/me").json["journal"] is None
        assert client.get("/api/rounds").json["rounds"] == []
        for name in ("events", "event?pos=1", "journal", "round?id=1"):
            answer = client.get(f"/api/{name}")
            assert (answer.status, "no journal" in answer.error) == (404, True)
        assert client.post("/api/verify", {}).status == 404
        books.is_mended = True
        assert client.post("/api/redrive", {"subscription": "books"}).json == {"result": 2}


def test_all_letters_of_a_kind_are_meant_however_many_looks_it_takes_to_find_them(
    tmp_path: Path, monkeypatch
):
    path, books = tmp_path / "firm.db", Mended()
    with firm(path, prepare(books)) as bus, served(path, tmp_path) as client:
        client.log_in(ACT)
        bury(bus, client, 200)
        monkeypatch.setattr(journal_file, "LOOK_MS", 0)  # a look finds 64 of them
        said = client.get("/api/dead").json
        assert (said["total"], said["complete"]) == (64, False)
        books.is_mended = True
        chosen = {"subscription": "books", "error": said["groups"][0]["error"]}
        assert client.post("/api/redrive", chosen).json == {"result": 200}
        wait_for(client, lambda: len(books.handled) == 200)


def test_all_letters_in_memory_are_meant_whatever_their_ids_are(tmp_path: Path, monkeypatch):
    path, books = tmp_path / "firm.sock", Mended()
    monkeypatch.setattr(
        letters, "KEPT_MOST", 25
    )  # older ones are let go, so that ids are far above the count
    monkeypatch.setattr(acts, "MEMORY_PAGE", 4)
    monkeypatch.setattr(acts, "MEMORY_SHOWN", 8)
    with firm(None, prepare(books), control=path) as bus, served(path, tmp_path) as client:
        client.log_in(ACT)
        for number in range(60):
            assert bus.publish_threadsafe(signal(number)).result(LIMIT_S)
        with client.stream() as stream:
            stream.until("pulse", lambda pulse: pulse["rows"]["books"]["errors"] == 60)
        said = client.get("/api/dead").json
        assert (said["total"], said["complete"], said["groups"][0]["count"]) == (25, False, 8)
        books.is_mended = True
        assert client.post("/api/redrive", {"subscription": "books"}).json == {"result": 25}
        wait_for(client, lambda: len(books.handled) == 25)


def test_an_action_that_breaks_off_says_how_far_it_came(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(acts, "LETTERS_AT_ONCE", 2)
    path = tmp_path / "firm.db"
    with firm(path, prepare(Mended())) as bus, served(path, tmp_path) as client:
        client.log_in(ACT)
        bury(bus, client, 5)
        (group,) = client.get("/api/dead").json["groups"]
        newest = group["example"]["letter_id"]
        asked = {"subscription": "books", "letter_ids": [newest, newest - 1, "x"], "reason": "known"}
        assert client.post("/api/drop", asked).status == 400
        do = Watcher.act
        calls: list[str] = []

        async def break_off(self: Watcher, verb: str, **arguments: Any) -> Any:
            calls.append(verb)
            return await do(self, verb, **arguments) if len(calls) < 3 else None

        monkeypatch.setattr(Watcher, "act", break_off)
        answer = client.post("/api/drop", {"subscription": "books", "reason": "known"})
        assert answer.status == 503
        assert answer.error.startswith("after 4 of 5 letters: no bus listens at ")


def test_nothing_is_done_and_nothing_kept_for_later_where_no_bus_listens(journal: Path, actor: Client):
    for path, asked in (
        ("/api/halt", {}),
        ("/api/release", {"scope": "firm", "reason": "x"}),
        ("/api/pause", {"subscription": "desk"}),
        ("/api/redrive", {"subscription": "desk", "letter_ids": [1]}),
    ):
        answer = actor.post(path, asked)
        assert (answer.status, "nothing was done" in answer.error) == (503, True)


def test_the_page_goes_on_with_the_next_life_of_the_firm(tmp_path: Path):
    path = tmp_path / "firm.db"
    with firm(path, prepare(Mended())):
        pass
    with served(path, tmp_path) as client:
        client.log_in(LOOK)
        with client.stream() as stream:
            assert stream.until("state")["live"] == "never"
        with firm(path, prepare(Mended())), client.stream() as stream:
            second = stream.until("pulse")["session"]
            assert len(client.get("/api/journal").json["starts"]) >= 1
        with client.stream() as stream:
            assert stream.until("state", lambda state: state["live"] == "gone")["why"]
        assert client.get("/api/events").json["events"]
        with firm(path, prepare(Mended())), client.stream() as stream:
            assert stream.until("pulse", lambda pulse: pulse["session"] != second)
            wait_for(client, lambda: len(client.get("/api/journal").json["starts"]) == 3)
