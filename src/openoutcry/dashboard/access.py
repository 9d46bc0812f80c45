"""Who somebody is: tokens, the sessions that they are traded for, and how often one may guess."""

import getpass
import os
import secrets
import stat
from collections import OrderedDict, deque
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import msgspec

from openoutcry.dashboard.refusals import Refused
from openoutcry.errors import ConfigError
from openoutcry.ports import Clock
from openoutcry.printable import is_obeyed
from openoutcry.units import NS_PER_S

Role = Literal["look", "act"]
TOKEN_BYTES: Final = 24
TOKEN_CHARACTERS_MIN: Final = 24
SESSION_S: Final = 12 * 3_600
SESSIONS_MAX: Final = 256
GUESSES_MAX: Final = 10
GUESS_WINDOW_S: Final = 60
_ADDRESSES_MAX: Final = 1_024
_NAME_MAX: Final = 64
_OTHERS_MAY: Final = stat.S_IRWXG | stat.S_IRWXO


class Person(msgspec.Struct, frozen=True):
    """Whom a token stands for.

    Attributes:
        role: `look`, or `act`, which may look as well.
        name: Under which name the firm journals what is done; empty: the person may say so at the login.

    """

    role: Role
    name: str = ""


class Session(msgspec.Struct, frozen=True):
    """Somebody who has logged in.

    Attributes:
        role: What is allowed.
        name: Under which name the firm journals what is done.
        csrf: What every request that changes something must repeat.
        until_ns: When it ends, on the clock's monotonic reading.

    """

    role: Role
    name: str
    csrf: str
    until_ns: int


class Access:
    """The tokens of this start, and the sessions that have been opened with them.

    Both are kept as digests, so that comparing them takes no time that depends on them.
    """

    def __init__(self, people: Mapping[str, Person], clock: Clock) -> None:
        self._people = {_digest(token): person for token, person in people.items()}
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._wrong: OrderedDict[str, deque[int]] = OrderedDict()

    def log_in(self, token: str, name: str | None, address: str) -> tuple[str, Session]:
        """Trade a token for a session: return its secret, for the cookie, and the session.

        Refuses with 429 where too many wrong ones came from this address lately, and with 403 a wrong one.
        """
        now_ns = self._clock.now_ns()
        wrong = self._guesses_of(address, now_ns)
        if len(wrong) >= GUESSES_MAX:
            wait_s = (wrong[0] - now_ns) // NS_PER_S + GUESS_WINDOW_S + 1
            raise Refused(
                429,
                f"{GUESSES_MAX} wrong tokens came from here within a minute: try again in {wait_s} s",
                {"Retry-After": f"{wait_s}"},
            )
        person = self._people.get(_digest(token))
        if person is None:
            wrong.append(now_ns)
            raise Refused(
                403,
                "this token is wrong, or of an earlier start: open the address that `openoutcry page` has "
                "printed last",
            )
        session = Session(
            person.role,
            person.name or _checked_name(name) or user_name(),
            secrets.token_urlsafe(TOKEN_BYTES),
            now_ns + SESSION_S * NS_PER_S,
        )
        secret = secrets.token_urlsafe(TOKEN_BYTES)
        self._sessions[_digest(secret)] = session
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return secret, session

    def session(self, secret: str | None) -> Session | None:
        """Return the session of a cookie; None if it has none, or an old one."""
        if not secret:
            return None
        key = _digest(secret)
        session = self._sessions.get(key)
        if session is not None and self._clock.now_ns() >= session.until_ns:
            del self._sessions[key]
            return None
        return session

    def _guesses_of(self, address: str, now_ns: int) -> deque[int]:
        """Return when the wrong tokens of the last minute came from an address, oldest first."""
        wrong = self._wrong.setdefault(address, deque(maxlen=GUESSES_MAX))
        self._wrong.move_to_end(address)
        while len(self._wrong) > _ADDRESSES_MAX:
            self._wrong.popitem(last=False)
        while wrong and now_ns - wrong[0] >= GUESS_WINDOW_S * NS_PER_S:
            wrong.popleft()
        return wrong


def new_token() -> str:
    """Return a secret that nobody can guess."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def user_name() -> str:
    """Return the name of the user whose process this is; its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.geteuid()}"


def read_tokens(path: Path) -> dict[str, Person]:
    """Return whom the tokens in a file stand for: a line each, `look TOKEN [NAME]` or `act TOKEN [NAME]`.

    Raises `ConfigError` for a file that others can read, and for a line that is none of these.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else "it is not text"
        raise ConfigError(f"tokens = {path}: it cannot be read ({said}); see to the file") from problem
    if mode & _OTHERS_MAY:
        raise ConfigError(
            f"tokens = {path}: other users may use it (mode {stat.S_IMODE(mode):04o}); chmod 600 {path}"
        )
    found: dict[str, Person] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        role, token, name = (*words, "", "")[:3]
        if role not in ("look", "act") or len(token) < TOKEN_CHARACTERS_MIN or not _is_name(name):
            raise ConfigError(
                f"tokens = {path}, line {number}: write `look TOKEN NAME` or `act TOKEN NAME`, with a token "
                f"of {TOKEN_CHARACTERS_MIN} characters at least"
            )
        if token in found:
            raise ConfigError(f"tokens = {path}, line {number}: this token is used twice; make another one")
        found[token] = Person("act" if role == "act" else "look", name)
    if not found:
        raise ConfigError(f"tokens = {path}: there is no token in it; write a line `look TOKEN NAME`")
    return found


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _checked_name(name: str | None) -> str:
    if name is not None and not _is_name(name):
        raise Refused(400, f"as = {name[:_NAME_MAX]!r}: a name has at most {_NAME_MAX} characters of text")
    return name or ""


def _is_name(name: str) -> bool:
    return len(name) <= _NAME_MAX and not any(map(is_obeyed, name))
