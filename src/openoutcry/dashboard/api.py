"""What each address of the page answers."""

from collections.abc import Awaitable, Callable
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from openoutcry.dashboard.access import SESSION_S, Access, Session
from openoutcry.dashboard.acts import Acts
from openoutcry.dashboard.comparing import Comparer
from openoutcry.dashboard.events import Wanted, event_at, search, tail
from openoutcry.dashboard.explaining import Explainer
from openoutcry.dashboard.gate import body_of, must_be_in, set_cookie
from openoutcry.dashboard.hub import Hub, Stream, plain
from openoutcry.dashboard.journal_file import Deadline, JournalFile
from openoutcry.dashboard.overview import Overview, Verification
from openoutcry.dashboard.refusals import Parameters, Refused, json_response
from openoutcry.dashboard.rounds import WantedRounds, recorded, recorded_round, remembered
from openoutcry.dashboard.series import Series, summary
from openoutcry.dashboard.why import came_of, why
from openoutcry.journals import JournalReader
from openoutcry.observers.prometheus import Exposition
from openoutcry.ports import CursorState
from openoutcry.version import __version__

SCREENS: Final = (
    "/",
    "/s/{name:path}",
    "/rounds",
    "/rounds/{id:path}",
    "/events",
    "/why",
    "/why/{ref:path}",
    "/dead",
    "/journal",
    "/compare",
    "/desks",
)
"""The addresses of the screens: each is answered with the one HTML file, which looks at the address."""
KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
TAIL_MAX: Final = 50
_Act = Callable[[Session, bytes], Awaitable[Any]]


class Tail:
    """The newest events of a journal, each once."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._after = 0

    async def __call__(self) -> dict[str, Any] | None:
        """Return what has come since the last call, the newest `TAIL_MAX`; None where there is nothing.

        `after` is the position behind which they begin, 0 at the first call; `passed_over` is how many
        are left out between it and the first of them.
        """
        return await self._file.look(self._look)

    def _look(self, reader: JournalReader, _deadline: Deadline) -> dict[str, Any] | None:
        head, after = reader.head, self._after
        if head == after:
            return None
        self._after = head
        is_next = after <= head <= after + TAIL_MAX
        found = reader.read(after, TAIL_MAX) if is_next else reader.tail(TAIL_MAX)
        found = [entry for entry in found if entry.position <= head]
        passed_over = max(0, head - after - len(found)) if after else 0
        return {"events": plain(tail(found)), "after": after, "passed_over": passed_over, "head": head}


class Api:
    """The answers, from what lives while the page serves."""

    def __init__(
        self,
        *,
        access: Access,
        cookie: str,
        hub: Hub,
        series: Series,
        acts: Acts,
        overview: Overview,
        static: Path,
        path: Path,
        file: JournalFile | None,
        explainer: Explainer | None,
        comparer: Comparer,
        metrics_token: bytes | None,
        metrics_are_open: bool,
    ) -> None:
        self._access = access
        self._cookie = cookie
        self._hub = hub
        self._watcher = hub.watcher
        self._series = series
        self._acts = acts
        self._overview = overview
        self._path = path
        self._file = file
        self._explainer = explainer
        self._comparer = comparer
        self._verification = None if file is None else Verification(file)
        self._exposition = Exposition(hub.watcher)
        self._metrics_token = metrics_token
        self._metrics_are_open = metrics_are_open
        self._static = {
            f"/static/{found.relative_to(static).as_posix()}": found
            for found in sorted(static.rglob("*"))
            if found.is_file() and found.suffix in KINDS
        }

    def routes(self) -> ASGIApp:
        """Return the app that answers."""
        gets = {
            "/login": self._log_in,
            "/api/me": self._me,
            "/api/stream": self._stream,
            "/api/subscription": self._subscription,
            "/api/events": self._events,
            "/api/event": self._event,
            "/api/rounds": self._rounds,
            "/api/round": self._round,
            "/api/why": self._why,
            "/api/compare": self._compare,
            "/api/dead": self._dead,
            "/api/journal": self._journal,
            "/metrics": self._metrics,
            "/static/{name:path}": self._file_of_page,
            **dict.fromkeys(SCREENS, self._screen),
        }
        acts: dict[str, _Act] = {
            name: getattr(self._acts, name)
            for name in ("halt", "release", "pause", "resume", "redrive", "drop")
        }
        acts["verify"] = self._verify
        posts = [Route(f"/api/{name}", self._act(do), methods=["POST"]) for name, do in acts.items()]
        return _told(
            Router([*(Route(path, answer) for path, answer in gets.items()), *posts], redirect_slashes=False)
        )

    def stop(self) -> None:
        """End what goes on."""
        self._hub.stop()
        if self._verification is not None:
            self._verification.stop()

    # -- the page itself ----------------------------------------------------------------------------

    async def _log_in(self, request: Request) -> Response:
        if request.headers.get("sec-fetch-dest", "document") != "document":
            raise Refused(403, "a login is opened in the browser, and not within another page")
        asked = Parameters(request.query_params)
        address = request.client.host if request.client is not None else ""
        secret, _ = self._access.log_in(asked.text("token") or "", asked.text("as"), address)
        answer = RedirectResponse("/", 303)
        set_cookie(answer, request, self._cookie, secret, SESSION_S)
        return answer

    async def _screen(self, _request: Request) -> Response:
        return self._send_file("/static/index.html")

    async def _file_of_page(self, request: Request) -> Response:
        return self._send_file(request.url.path)

    def _send_file(self, name: str) -> Response:
        """Return a file that was there when the page started; no path is made of what was asked for."""
        path = self._static.get(name)
        if path is None:
            raise Refused(404, "there is no such file in the page")
        return Response(path.read_bytes(), headers={"Content-Type": KINDS[path.suffix]})

    async def _me(self, request: Request) -> Response:
        session = _session(request)
        shape = self._watcher.shape
        return json_response(
            {
                "role": session.role,
                "csrf": session.csrf,
                "operator": session.name,
                "firm": self._path.stem if shape is None else shape.firm,
                "journal": None if self._file is None else str(self._file.path),
                "compares": len(self._comparer.names) > 1,
                "version": __version__,
            }
        )

    async def _stream(self, request: Request) -> Response:
        wants_tail = request.query_params.get("tail") == "1" and self._file is not None
        last_id = request.headers.get("last-event-id", "")
        return Stream(self._hub, _session(request).until_ns, last_id, wants_tail=wants_tail)

    # -- what is looked at --------------------------------------------------------------------------

    async def _subscription(self, request: Request) -> Response:
        name = Parameters(request.query_params).text("name")
        if name is None:
            raise Refused(400, "name is missing: give that of a subscription")
        self._series.look_at(name)
        shape, pulse = self._watcher.shape, self._watcher.pulse
        places = [] if shape is None else [s.name for s in shape.subscriptions]
        index = places.index(name) if name in places else None
        row = None
        if pulse is not None and index is not None:
            row = next((row for row in pulse.rows if row.index == index), None)
        cursors = await self._cursors_of(name)
        if index is None and not cursors:
            raise Refused(404, f"there is no subscription {name[:100]!r} in the firm or the journal")
        buckets = self._series.buckets(name)
        return json_response(
            {
                "name": name,
                "live": self._watcher.live,
                "shape": None if shape is None or index is None else plain(shape.subscriptions[index]),
                "row": plain(row),
                "latency": None if buckets is None else summary(buckets.latency),
                "duration": None if buckets is None else summary(buckets.duration),
                "last_error": "" if buckets is None else buckets.last_error,
                "series": self._series.points(name),
                "lanes": [{"lane": c.lane, "position": c.floor} for c in cursors],
                "takes": sorted({name for cursor in cursors for name in cursor.takes}),
                "makes": self._hub.types_of(name),
            }
        )

    async def _cursors_of(self, name: str) -> list[CursorState]:
        if self._file is None:
            return []
        return await self._file.look(
            lambda reader, _deadline: [c for c in reader.cursors() if c.subscription == name]
        )

    async def _events(self, request: Request) -> Response:
        wanted = Wanted(Parameters(request.query_params))
        return json_response(
            await self._journal_file().look(lambda reader, deadline: search(reader, deadline, wanted))
        )

    async def _event(self, request: Request) -> Response:
        asked = Parameters(request.query_params)
        position = asked.number("pos", least=1)
        whole = asked.text("whole") == "1"
        return json_response(
            await self._journal_file().look(lambda reader, _deadline: event_at(reader, position, whole=whole))
        )

    async def _rounds(self, request: Request) -> Response:
        wanted = WantedRounds(Parameters(request.query_params))
        if self._file is None:
            return json_response(remembered(self._hub.rounds, wanted))
        return json_response(await recorded(self._file, wanted))

    async def _round(self, request: Request) -> Response:
        asked = Parameters(request.query_params)
        round_id = asked.text("id")
        if round_id is None:
            raise Refused(400, "id is missing: give that of a round")
        before = asked.maybe_number("before", least=1)
        return json_response(await recorded_round(self._journal_file(), round_id, before))

    async def _why(self, request: Request) -> Response:
        asked = Parameters(request.query_params)
        ref = asked.text("ref")
        if ref is None:
            raise Refused(400, "ref is missing: give an order, a round, an event or a symbol")
        self._journal_file()
        assert self._explainer is not None, "what has a journal has an explainer"
        answer = came_of if asked.text("forward") == "1" else why
        return json_response(await answer(self._explainer, ref))

    async def _compare(self, request: Request) -> Response:
        return json_response(await self._comparer.compare(Parameters(request.query_params)))

    async def _dead(self, request: Request) -> Response:
        subscription = Parameters(request.query_params).text("subscription")
        return json_response(await self._acts.letters(subscription))

    async def _journal(self, _request: Request) -> Response:
        said = await self._journal_file().look(self._overview.look)
        assert self._verification is not None
        pulse = self._watcher.pulse if self._watcher.live == "up" else None
        live = None if pulse is None else plain(pulse.journal)
        return json_response({**said, "live": live, "verify": self._verification.said()})

    async def _metrics(self, request: Request) -> Response:
        if self._metrics_token is not None:
            given = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
            if not compare_digest(given, b"Bearer " + self._metrics_token):
                raise Refused(
                    401, "the metrics are for who shows their token", {"WWW-Authenticate": "Bearer"}
                )
        elif not self._metrics_are_open:
            raise Refused(404, "the metrics are told to others with --metrics-token alone")
        text, kind = await self._exposition.text(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": kind})

    def _journal_file(self) -> JournalFile:
        if self._file is None:
            raise Refused(404, "this firm has no journal: what was is not kept")
        return self._file

    # -- what is done -------------------------------------------------------------------------------

    def _act(self, do: _Act) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return json_response({"result": await do(_session(request), await body_of(request))})

        return answer

    async def _verify(self, _session: Session, _body: bytes) -> Any:
        self._journal_file()
        assert self._verification is not None
        self._verification.start()
        return self._verification.said()


def _session(request: Request) -> Session:
    return must_be_in(request.state.session)


def _told(router: Router) -> ASGIApp:
    """Return the routes, whose own refusals are sentences too."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await router({**scope, "app": router}, receive, send)  # so that it raises what it refuses
        except HTTPException as problem:
            what = {404: "there is nothing at this address", 405: "that is not done at this address"}
            raise Refused(
                problem.status_code, what.get(problem.status_code, problem.detail), problem.headers
            ) from problem

    return app
