r"""Text that comes from elsewhere, made safe to show: what is not printed but obeyed is escaped.

Names, ids, symbols, errors, paths and the fields of events are data. Terminals, log viewers and spreadsheets
take some characters as commands: they move the cursor, begin a line, turn the direction of writing, or hide.
Here these are shown as escapes such as `\x1b` and `\u202e`:

- control characters: C0, C1 (U+009B begins a sequence as ESC [ does), DEL, line and paragraph separators
- format characters: bidirectional marks, zero-width spaces and joiners, tags; and letters that are invisible
- surrogates, and code points that are not assigned

Letters with accents, CJK, symbols and emoji stay as they are, but for the joiners within composed emoji. What
is escaped once is not escaped again.

Half a surrogate pair cannot even be written: names that have one are refused, other text is escaped.
"""

import re
import traceback
from typing import Final
from unicodedata import category

_OBEYED: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
_FIRST_VARIANT, _LAST_VARIANT = "\U000e0100", "\U000e01ef"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_OWN: Final = re.compile(
    r'(?: *[|+-]+ )?  File "'
    r"| *(?:\+ Exception Group )?Traceback \(most recent call last\):"
    r"|\n(?:The above exception was the direct cause|During handling of the above exception)"
)
_LINE_FEED: Final = "\n"
MESSAGE_MOST: Final = 20_000


def unwritable(text: str) -> str:
    """Return what is wrong with text that no file can hold, in words; empty if nothing is.

    That is half a surrogate pair: from a file name that is no UTF-8, or from text cut within a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        return f"{text[problem.start]!r} in it is half a surrogate pair, which cannot be written"
    return ""


def writable(text: str) -> str:
    r"""Return text as a file can hold it: half a surrogate pair becomes an escape such as `\ud83d`."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_obeyed(character: str) -> bool:
    """Return True for a character that is not shown but does something, or hides."""
    return (
        category(character) in _OBEYED
        or character in _INVISIBLE
        or _FIRST_VARIANT <= character <= _LAST_VARIANT
    )


class _Escapes(dict[int, str | int]):
    """What characters are shown as, found when they are first met."""

    def __missing__(self, code: int) -> str | int:
        character = chr(code)
        shown = self._escaped(character) if is_obeyed(character) else code
        if len(self) < 0x10000:
            self[code] = shown
        return shown

    def _escaped(self, character: str) -> str:
        return character.encode("unicode_escape").decode("ascii")


class _JsonEscapes(_Escapes):
    r"""The same as JSON has it, where only strings have such characters: `\u009b`; a pair beyond U+FFFF."""

    def _escaped(self, character: str) -> str:
        units = character.encode("utf-16-be", "surrogatepass").hex()
        return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


_ESCAPES: Final = _Escapes()
_JSON_ESCAPES: Final = _JsonEscapes({9: " ", 10: " ", 13: " "})  # which JSON has between its parts alone


def printable(text: str) -> str:
    """Return text as one line that is safe to show."""
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


def printable_lines(text: str) -> str:
    """Return text of several lines, safe to show: for text of the program's own. Line feeds make lines."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """Return JSON as one line that is safe to show, and decodes to the same."""
    return text if text.isascii() and text.isprintable() else text.translate(_JSON_ESCAPES)


def without_middle(text: str, most: int) -> str:
    """Return a text, of more than so many characters how it begins and ends, and how many are left out."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}... ({len(text) - 2 * half:,} characters left out) ...{text[-half:]}"


def printable_traceback(error: BaseException) -> str:
    """Return the traceback of an error, safe to show: the line feeds in its message begin no line.

    Of a message, which may be the whole answer of a server, there are at most `MESSAGE_MOST` characters: to
    escape ten million would keep a loop for seconds.
    """
    shown = []
    after_message = False
    for whole in traceback.format_exception(error):
        part = without_middle(whole, MESSAGE_MOST)
        if _OWN.match(part):
            shown.append(printable_lines(part))
            after_message = False
        else:  # a message, whose text is the error's, or a line of its notes
            indent = "  " if after_message and not part.startswith(" ") else ""
            shown.append(f"{indent}{printable(part.removesuffix(_LINE_FEED))}{_LINE_FEED}")
            after_message = not part.startswith(" ")
    return "".join(shown)


def no_formula(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe goes before what begins as one.

    Numbers stay numbers, signs included.
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text[1:2].isdigit() and text.isascii() and "_" not in text
