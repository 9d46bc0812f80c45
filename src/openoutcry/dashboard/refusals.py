"""What the page does not do, as a status of HTTP and a sentence for the person who asked."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

TEXT_MAX = 500
"""No parameter has more characters."""


class Refused(Exception):
    """The answer to a request that is not fulfilled.

    Attributes:
        status: The status of HTTP.
        sentence: Why, and what to do.
        headers: Headers that the status asks for.

    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer."""
        return json_response({"error": self.sentence}, self.status, self.headers)


def json_response(answer: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer as JSON."""
    return Response(msgspec.json.encode(answer), status, headers, "application/json")


class Parameters:
    """What an address asks for behind its question mark: bounded, and refused where it makes no sense."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def text(self, name: str) -> str | None:
        """Return a text, None where it is missing or empty."""
        found = self._given.get(name) or None
        if found is not None and len(found) > TEXT_MAX:
            raise Refused(400, f"{name} has {len(found):,} characters, at most {TEXT_MAX} are taken")
        return found

    def number(self, name: str, default: int | None = None, *, least: int = 0, most: int = 2**63 - 1) -> int:
        """Return a whole number. Refuses one that is missing and has no default."""
        found = self.maybe_number(name, least=least, most=most)
        if found is not None:
            return found
        if default is None:
            raise Refused(400, f"{name} is missing: give a whole number")
        return default

    def maybe_number(self, name: str, *, least: int = 0, most: int = 2**63 - 1) -> int | None:
        """Return a whole number, None where it is missing."""
        found = self.text(name)
        if found is None:
            return None
        digits = found.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and least <= int(found) <= most):
            raise Refused(400, f"{name} = {found[:40]!r}: give a whole number from {least} to {most}")
        return int(found)
