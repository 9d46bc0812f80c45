"""The gate before every request: whether it is answered at all, and with which headers.

A request passes it for what it is, whatever route it is for:

    Host is one of ours?         else 421: a name that was pointed at this address by somebody else
    GET, HEAD or POST?           else 405
    under /api: a session?       else 401
    POST: the same Origin?       else 403
          the session's secret?  else 403
          may act?               else 403
          JSON, not too long?    else 415, 413
"""

import asyncio
import hmac
import logging
from collections.abc import Collection
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openoutcry.dashboard.access import Access, Session
from openoutcry.dashboard.refusals import Refused
from openoutcry.printable import printable

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)
"""What every answer has, that of the server itself to what is no HTTP included."""
CSRF_HEADER: Final = "x-openoutcry"
BODY_BYTES_MAX: Final = 64 * 1024
BODY_S: Final = 10.0
"""A client that does not send its request for so long is not waited for."""
_METHODS: Final = ("GET", "HEAD", "POST")
_log: Final = logging.getLogger("openoutcry")


class Gate:
    """An ASGI app before another one.

    What passes has the session, or None, as `request.state.session`; every `Refused` that the app raises is
    answered here, and so is any other error, which is logged.
    """

    def __init__(self, app: ASGIApp, access: Access, hosts: Collection[str], cookie: str) -> None:
        self._app = app
        self._access = access
        self._hosts = frozenset(hosts)
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        started = False

        async def tell(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check(request)
            await self._app(scope, receive, tell)
        except Refused as refused:
            answer = refused.response()
        except ClientDisconnect:  # before it has sent all of its request
            return
        except Exception:
            _log.exception("the page could not answer %s %s", request.method, printable(request.url.path))
            if started:
                raise
            answer = Refused(500, "the page has made a mistake, which its terminal shows").response()
        else:
            return
        await answer(scope, receive, send)

    def _check(self, request: Request) -> None:
        """Raise `Refused` for what does not pass."""
        if request.headers.get("host", "").lower() not in self._hosts:
            raise Refused(421, f"this page is at http://{min(self._hosts)} alone: open it there")
        if request.method not in _METHODS:
            raise Refused(405, f"{request.method} is not done here", {"Allow": ", ".join(_METHODS)})
        session = self._access.session(request.cookies.get(self._cookie))
        request.state.session = session
        if request.method == "POST":
            self._check_post(request, session)
        elif request.url.path.startswith("/api/"):
            must_be_in(session)

    def _check_post(self, request: Request, session: Session | None) -> None:
        host = request.headers["host"].lower()
        if request.headers.get("origin", "").lower() not in (f"http://{host}", f"https://{host}"):
            raise Refused(403, "this request does not come from the page itself")
        session = must_be_in(session)
        given = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(given.encode(), session.csrf.encode()):
            raise Refused(403, f"the header {CSRF_HEADER} is not that of this session: load the page anew")
        if session.role != "act":
            raise Refused(
                403, "this login may only look: start the page with --act, and log in with that address"
            )
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "a request that changes something is JSON: send it as application/json")
        size = request.headers.get("content-length", "0")
        if not (size.isascii() and size.isdigit() and int(size) <= BODY_BYTES_MAX):
            raise _too_long()


def must_be_in(session: Session | None) -> Session:
    """Return the session, or refuse somebody who has not logged in."""
    if session is None:
        raise Refused(
            401, "you are not logged in, or no longer: open the address that `openoutcry page` has printed"
        )
    return session


async def body_of(request: Request) -> bytes:
    """Return what was sent with a request: all of it, unless it is too long or too slow."""
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                found += part
                if len(found) > BODY_BYTES_MAX:
                    raise _too_long()
    except TimeoutError:
        raise Refused(408, f"the request was not sent within {BODY_S:g} s: send it again") from None
    return bytes(found)


def _too_long() -> Refused:
    return Refused(413, f"a request has at most {BODY_BYTES_MAX:,} bytes", {"Connection": "close"})


def set_cookie(answer: Response, request: Request, name: str, secret: str, age_s: int) -> None:
    """Give a browser the cookie of its session: not for scripts, and not for other sites.

    Behind a proxy that says so, it is for TLS alone.
    """
    answer.set_cookie(
        name,
        secret,
        max_age=age_s,
        path="/",
        secure=request.headers.get("x-forwarded-proto", "") == "https",
        httponly=True,
        samesite="strict",
    )
