"""Text from elsewhere is shown so that no terminal, log or spreadsheet obeys it."""

import json
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.errors import ConfigError
from openoutcry.printable import no_formula, printable, printable_json, printable_lines, printable_traceback

OBEYED = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069",
    *"\ufeff\u00ad\ufff9\u034f\u3164\u115f\ufffe\U000e0001\U000e0041\U000e0100\ud800\udc80\udfff",
]
STAYS = [
    "",
    "plain",
    "Zürich Łódź",
    "漢字かな　カナ",
    "한국어",
    "עברית العربية",
    "naïve café",
    "€ ½ ±",
    "😀🚀",
    "❤️",
]


@pytest.mark.parametrize("character", OBEYED, ids=lambda c: f"U+{ord(c):04X}")
def test_what_is_obeyed_is_escaped(character):
    shown = printable(f"a{character}b")
    assert character not in shown
    assert shown == f"a{character.encode('unicode_escape').decode()}b"
    assert printable(shown) == shown


@pytest.mark.parametrize("text", STAYS)
def test_what_is_printed_stays(text):
    assert printable(text) == printable_json(text) == printable_lines(text) == text


@given(st.text(st.characters()))
def test_nothing_that_is_obeyed_is_left(text):
    for shown in (printable(text), printable_json(text)):
        assert {category(c) for c in shown}.isdisjoint({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
    assert printable(printable(text)) == printable(text)
    assert printable_lines(text).count("\n") == text.count("\n")


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_decodes_to_the_same(value):
    for is_ascii in (False, True):
        assert json.loads(printable_json(json.dumps(value, ensure_ascii=is_ascii))) == value
    assert json.loads(printable_json(json.dumps(value, ensure_ascii=False, indent=2))) == value


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1-800", "-x", "@SUM(A1)", "\t=1", "\r=1", "=", "-", "\uff1d1", "\uff0d1+1", "-inf", "-1_0"],
)
def test_a_formula_is_defused(text):
    assert no_formula(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1.5", "+3", "-1e5", "-0", "1", "", "x=1", "a-b", "'=1"])
def test_numbers_and_plain_words_stay(text):
    assert no_formula(text) == text


def _raised(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as caught:
        _fail(error)
    return caught.value


def _fail(error: BaseException) -> None:
    raise error


def test_a_traceback_has_the_lines_of_its_frames_and_none_of_its_message():
    error = _raised(ValueError("boom\nERROR forged\x1b[31m\u202e"))
    error.add_note("note\nTraceback forged")
    error.__cause__ = _raised(KeyError("first\ncause"))
    shown = printable_traceback(error)
    lines = shown.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "ValueError: boom\\nERROR forged\\x1b[31m\\u202e" in lines
    assert [line for line in lines if line.startswith(("ERROR", "note", "Traceback forged"))] == []
    assert any(line.startswith('  File "') and line.endswith("in _fail") for line in lines)
    assert "The above exception was the direct cause of the following exception:" in lines


def test_of_a_message_without_end_a_traceback_has_how_it_begins_and_ends():
    shown = printable_traceback(ValueError("begins" + "\x1b" * 1_000_000 + "ends"))
    assert shown.startswith("ValueError: begins")
    assert shown.endswith("ends\n")
    assert "characters left out" in shown
    assert len(shown) < 100_000


def test_a_traceback_of_a_group_and_of_a_mistake_in_the_source_reads_as_ever():
    def source() -> None:
        exec("a = = 1")

    with pytest.raises(SyntaxError) as caught:
        source()
    shown = printable_traceback(ExceptionGroup("some", [caught.value, ValueError("x\ny")]))
    assert "    |     a = = 1\n" in shown
    assert "    | SyntaxError: invalid syntax\n" in shown
    assert "ValueError: x\\n" in shown
    assert "\\x" not in shown


def test_an_error_of_ours_quotes_whatever_it_quotes_safely():
    error = ConfigError("limit = 'x\x1b[2J\nforged\u202e': give a number")
    assert str(error) == "limit = 'x\\x1b[2J\\nforged\\u202e': give a number"
    assert error.args == ("limit = 'x\x1b[2J\nforged\u202e': give a number",)
