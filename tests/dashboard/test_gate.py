"""What the page refuses, each refusal over real HTTP."""

import json
import socket
from contextlib import suppress

import pytest
from page_kit import ACT, LOOK, Client, served
from tests.thread_kit import LIMIT_S

from openoutcry.dashboard import connections
from openoutcry.dashboard.access import Person
from openoutcry.dashboard.gate import BODY_BYTES_MAX, HEADERS
from openoutcry.dashboard.server import _hosts

ACTS = {
    "/api/halt": {},
    "/api/release": {"reason": "reviewed"},
    "/api/pause": {"subscription": "desk"},
    "/api/resume": {"subscription": "desk"},
    "/api/redrive": {"subscription": "desk"},
    "/api/drop": {"subscription": "desk", "reason": "known"},
    "/api/verify": {},
}
READ = (
    "me",
    "stream",
    "subscription?name=desk",
    "rounds",
    "round?id=1",
    "events",
    "event?pos=1",
    "dead",
    "journal",
)


def assert_has_the_headers(headers: dict[str, str]) -> None:
    assert {name: headers.get(name.lower()) for name, _ in HEADERS} == dict(HEADERS)


def raw(client: Client, sent: bytes) -> bytes:
    """Send bytes, and return all that comes until the page hangs up."""
    with socket.create_connection(("127.0.0.1", client.port), LIMIT_S) as line:
        line.sendall(sent)
        parts = []
        while part := line.recv(65_536):
            parts.append(part)
        return b"".join(parts)


# -- the host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "[::1]:{port}", "", "0:{port}"],
)
def test_a_host_that_is_not_ours_is_misdirected(looker: Client, host: str):
    looker.host = host.format(port=looker.port)
    for path in ("/", "/static/app.js", f"/login?token={LOOK}", "/api/me", "/api/stream"):
        answer = looker.get(path)
        assert answer.status == 421
        assert "open it there" in answer.error
        assert_has_the_headers(answer.headers)


def test_a_request_without_a_host_is_misdirected(anybody: Client):
    assert raw(anybody, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 421 ")


def test_localhost_is_the_same_place(anybody: Client):
    anybody.host = f"LocalHost:{anybody.port}"
    assert anybody.log_in(LOOK).get("/api/me").status == 200


def test_a_name_of_the_proxy_before_it_is_ours_too(journal, tmp_path):
    with served(journal, tmp_path, names=("firm.example",)) as client:
        for host in ("firm.example", f"firm.example:{client.port}"):
            client.host = host
            assert client.get("/").status == 200
        client.host = "other.example"
        assert client.get("/").status == 421


@pytest.mark.parametrize(
    ("host", "found"), [("127.0.0.1", "127.0.0.1 localhost"), ("::1", "[::1] localhost")]
)
def test_browsers_leave_the_port_of_http_out(host: str, found: str):
    names = found.split()
    assert _hosts(host, 80, ()) == {*names, *(f"{name}:80" for name in names)}
    assert _hosts(host, 8765, ()) == {f"{name}:8765" for name in names}


# -- the login ---------------------------------------------------------------------------------------


def test_the_cookie_is_for_the_page_alone(anybody: Client):
    answer = anybody.get(f"/login?token={LOOK}")
    cookie, *flags = answer.headers["set-cookie"].split("; ")
    assert cookie.startswith(f"openoutcry-{anybody.port}=")
    assert sorted(map(str.lower, flags)) == ["httponly", "max-age=43200", "path=/", "samesite=strict"]
    assert LOOK not in str(answer)


def test_behind_tls_the_cookie_is_for_tls(anybody: Client):
    answer = anybody.get(f"/login?token={LOOK}", **{"X-Forwarded-Proto": "https"})
    assert "; secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    "query", ["", "?token=", "?token=wrong", f"?token={LOOK}x", "?token=%00", f"?tokens={LOOK}"]
)
def test_a_wrong_token_opens_nothing(anybody: Client, query: str):
    answer = anybody.get(f"/login{query}")
    assert answer.status == 403
    assert "earlier start" in answer.error
    assert "set-cookie" not in answer.headers


def test_after_ten_wrong_tokens_the_right_one_waits_a_minute(anybody: Client, time):
    assert {anybody.get(f"/login?token={number}").status for number in range(10)} == {403}
    answer = anybody.get(f"/login?token={LOOK}")
    assert (answer.status, answer.headers["retry-after"]) == (429, "61")
    time.advance(61 * 1_000_000_000)
    assert anybody.get(f"/login?token={LOOK}").status == 303


def test_whoever_is_in_stays_in_while_others_guess(looker: Client):
    for number in range(12):
        looker.get(f"/login?token={number}")
    assert looker.get("/api/me").status == 200


@pytest.mark.parametrize("use", ["iframe", "image", "script", "empty"])
def test_another_site_cannot_use_up_the_guesses(anybody: Client, use: str):
    for _ in range(12):
        assert anybody.get("/login?token=wrong", **{"Sec-Fetch-Dest": use}).status == 403
    assert anybody.get(f"/login?token={LOOK}", **{"Sec-Fetch-Dest": "document"}).status == 303


def test_a_session_ends_after_twelve_hours(looker: Client, time):
    time.advance(12 * 3_600 * 1_000_000_000 - 1)
    assert looker.get("/api/me").status == 200
    time.advance(1)
    answer = looker.get("/api/me")
    assert answer.status == 401
    assert "openoutcry page" in answer.error


def test_a_token_or_cookie_of_an_earlier_start_is_refused(journal, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with served(journal, tmp_path / "one") as client:
        old = client.log_in(LOOK).cookie
    with served(journal, tmp_path / "two", people={"n" * 32: Person("look")}) as client:
        assert client.get(f"/login?token={LOOK}").status == 403
        client.cookie = old.replace(old.partition("=")[0], f"openoutcry-{client.port}")
        assert client.get("/api/me").status == 401


def test_nothing_of_the_firm_is_told_without_a_login(anybody: Client):
    for cookie in ("", f"openoutcry-{anybody.port}=wrong", f"openoutcry-{anybody.port}={LOOK}"):
        anybody.cookie = cookie
        for name in READ:
            answer = anybody.get(f"/api/{name}")
            assert answer.status == 401
            assert_has_the_headers(answer.headers)


def test_the_name_under_which_one_acts_is_that_of_the_token_or_as_said(anybody: Client):
    assert anybody.log_in(ACT).get("/api/me").json["operator"] == "ada"
    assert anybody.log_in(f"{LOOK}&as=grace").get("/api/me").json["operator"] == "grace"
    assert anybody.log_in(f"{ACT}&as=grace").get("/api/me").json["operator"] == "ada"
    assert anybody.get(f"/login?token={LOOK}&as=%1b[31m").status == 400


# -- what changes something --------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [None, "", "null", "http://evil.example", "http://127.0.0.1", "file://"])
def test_a_post_of_another_origin_is_refused(actor: Client, origin: str | None):
    for path, asked in ACTS.items():
        answer = actor.post(path, asked, Origin=origin)
        assert answer.status == 403
        assert "page itself" in answer.error
        assert_has_the_headers(answer.headers)


@pytest.mark.parametrize("csrf", [None, "", "wrong", "\xfc"])
def test_a_post_without_the_secret_of_its_session_is_refused(actor: Client, csrf: str | None):
    for path, asked in ACTS.items():
        answer = actor.post(path, asked, **{"x-openoutcry": csrf})
        assert answer.status == 403
        assert "x-openoutcry" in answer.error


def test_the_secret_of_another_session_is_not_that_of_this_one(anybody: Client):
    other = anybody.log_in(ACT).csrf
    anybody.log_in(ACT)
    assert anybody.post("/api/halt", {}, **{"x-openoutcry": other}).status == 403


def test_who_may_look_may_not_act(looker: Client):
    for path, asked in ACTS.items():
        answer = looker.post(path, asked)
        assert answer.status == 403
        assert "--act" in answer.error


def test_nobody_acts_without_a_login(anybody: Client):
    assert {anybody.post(path, asked).status for path, asked in ACTS.items()} == {401}


def test_a_post_that_a_form_could_send_is_refused(actor: Client):
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        for path, asked in ACTS.items():
            assert actor.post(path, asked, **{"Content-Type": kind}).status == 415


@pytest.mark.parametrize("path", [path for path in ACTS if path != "/api/verify"])
def test_a_post_that_cannot_be_understood_is_refused(actor: Client, path: str):
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"subscription": 1}',
        b'{"no_field": 1}',
        b"[" * 60_000,
    ):
        answer = actor.post(path, body)
        assert answer.status == 400, body[:20]
        assert "cannot be understood" in answer.error


def test_a_long_request_is_refused_before_it_is_read(actor: Client):
    said = {"Content-Length": str(BODY_BYTES_MAX + 1)}
    assert actor.post("/api/halt", b"{}", **said).status == 413
    for size in ("-1", "1e3", "9" * 400, "\xb2"):
        assert actor.post("/api/halt", b"", **{"Content-Length": size}).status in (400, 413)


def test_a_request_that_does_not_say_how_long_it_is_is_cut_off(actor: Client):
    part = b"%x\r\n%b\r\n" % (BODY_BYTES_MAX + 1, b" " * (BODY_BYTES_MAX + 1))
    answer = actor.post("/api/halt", part + b"0\r\n\r\n", **{"Transfer-Encoding": "chunked"})
    assert answer.status == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_refused(actor: Client, method: str):
    answer = actor.call(method, "/api/halt")
    assert answer.status == 405
    assert_has_the_headers(answer.headers)


def test_what_changes_something_cannot_be_got(actor: Client):
    for path in ACTS:
        assert actor.get(path).status in (404, 405)


# -- files -------------------------------------------------------------------------------------------


ASTRAY = [
    "/static/../../firm.db",
    "/static/../VENDOR.toml",
    "/static/VENDOR.toml",
    "/static/%2e%2e/%2e%2e/firm.db",
    "/static/..%2f..%2ffirm.db",
    "/static//etc/passwd",
    "/static/....//firm.db",
    "/static/app.js%00.css",
    "/static/screens",
    "/static/",
    "/static/screens/../app.js",
    "/etc/passwd",
    "/%c0%ae%c0%ae/etc/passwd",
    "/static/" + "a" * 5_000,
]


def test_no_path_leads_out_of_the_page(anybody: Client):
    for path in ASTRAY:
        answer = anybody.get(path)
        assert answer.status == 404, path
        assert "error" in answer.json


def test_the_files_of_the_page_have_their_types(anybody: Client):
    for path, kind in (
        ("/", "text/html; charset=utf-8"),
        ("/static/app.js", "text/javascript; charset=utf-8"),
        ("/static/screens/floor.js", "text/javascript; charset=utf-8"),
        ("/static/style.css", "text/css; charset=utf-8"),
    ):
        answer = anybody.get(path)
        assert (answer.status, answer.headers["content-type"]) == (200, kind)
        assert_has_the_headers(answer.headers)


def test_every_screen_has_an_address(anybody: Client):
    page = anybody.get("/").body
    for path in (
        "/s/desk",
        "/s/a/b",
        "/rounds",
        "/rounds/r:1/2",
        "/events?type=x",
        "/dead",
        "/journal",
        "/desks",
    ):
        assert anybody.get(path).body == page


# -- what is no request ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 70_000,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_with_the_headers_of_every_answer(anybody: Client, sent: bytes):
    head, _, _ = raw(anybody, sent).partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    assert status.split()[1] == "400"
    assert_has_the_headers({n.lower(): v for n, _, v in (line.partition(": ") for line in lines)})


def test_a_websocket_is_not_opened(looker: Client):
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x",
    }
    assert looker.get("/api/me", **asked).status == 200  # as an ordinary request


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: ", b"POST /api/halt HTTP/1.1\r\n"])
def test_a_client_that_does_not_ask_is_cut_off(journal, tmp_path, monkeypatch, sent: bytes):
    monkeypatch.setattr(connections, "LOOK_S", 0.05)
    with served(journal, tmp_path) as client:
        assert raw(client, sent) == b""


def test_a_client_that_reads_none_of_its_answers_is_cut_off(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "LOOK_S", 0.05)
    with served(journal, tmp_path) as client, socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        line.settimeout(LIMIT_S)
        line.connect(("127.0.0.1", client.port))
        request = f"GET /static/style.css HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode()
        with suppress(ConnectionError):  # it takes requests for as long as there is room for answers
            while True:
                line.sendall(request * 1_000)


def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_mistake(actor: Client, caplog):
    with socket.create_connection(("127.0.0.1", actor.port), LIMIT_S) as line:
        line.sendall(
            f"POST /api/pause HTTP/1.1\r\nHost: {actor.host}\r\nOrigin: http://{actor.host}\r\n"
            f"Cookie: {actor.cookie}\r\nx-openoutcry: {actor.csrf}\r\nContent-Type: application/json\r\n"
            "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n".encode()
        )
        assert line.recv(4_096).startswith(b"HTTP/1.1 100 ")  # it waits for the rest
    assert actor.get("/api/me").status == 200
    actor.get("/api/events")
    assert caplog.text == ""


def test_parameters_are_bounded(looker: Client):
    for query in (
        "limit=0",
        "limit=999",
        "limit=x",
        "before=-1",
        f"before={'9' * 30}",
        f"text={'x' * 501}",
        "since=1.5",
    ):
        answer = looker.get(f"/api/events?{query}")
        assert answer.status == 400, query
        assert query.partition("=")[0] in answer.error


def test_the_answers_of_the_api_are_json(looker: Client):
    for name in ("me", "rounds", "events", "event?pos=1", "dead", "journal"):
        answer = looker.get(f"/api/{name}")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        json.loads(answer.body)
        assert_has_the_headers(answer.headers)
