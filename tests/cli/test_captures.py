"""What `top` and `status` show at two sizes of a terminal, as somebody has looked at it."""

import re

import pytest
from tests.cli.captures import SIZES, SNAPSHOTS, a_look, captures, looks

from openoutcry.cells import width_of
from openoutcry.cli.watching.paint import has_colour, written
from openoutcry.cli.watching.view import view
from openoutcry.printable import is_obeyed


def test_the_captures_are_those_in_the_repository() -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in SNAPSHOTS.glob("*.txt")}
    assert kept == captures(), "if it is better now: python tests/cli/captures.py, and look at them"


@pytest.mark.parametrize("name", looks())
@pytest.mark.parametrize("size", [*SIZES, (40, 10), (20, 5), (79, 1), (300, 100)], ids=str)
def test_top_is_never_wider_or_longer_than_the_screen(name: str, size: tuple[int, int]) -> None:
    width, height = size
    lines = written(view(looks()[name], width, height, cut=True, seen=set()), colour=False)
    assert len(lines) <= height
    assert max(map(width_of, lines)) <= width


@pytest.mark.parametrize("name", looks())
def test_colour_adds_nothing_that_the_words_do_not_say(name: str) -> None:
    lines = view(looks()[name], 150, 45, seen=set())
    painted, plain = written(lines, colour=True), written(lines, colour=False)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in painted] == plain
    assert painted != plain


def test_what_is_well_has_no_colour() -> None:
    painted = "\n".join(written(view(looks()["well"], 150, 45, seen=set()), colour=True))
    assert set(re.findall(r"\x1b\[([0-9;]*)m", painted)) == {"0", "1", "2"}


def test_piped_or_with_no_color_nothing_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_colour()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert has_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colour()


def test_piped_every_subscription_has_its_row_and_nothing_is_cropped() -> None:
    look = looks()["quiet"]
    lines = written(view(look, seen=set()), colour=False)
    names = {subscription.name for subscription in look.shape.subscriptions}
    assert names <= {line.partition("  ")[0] for line in lines}
    assert not any("..." in line for line in lines)


def test_a_column_that_had_a_value_stays_and_one_that_never_had_is_not_there() -> None:
    seen: set[str] = set()
    assert "errors" not in str(written(view(looks()["well"], 150, 45, seen=seen), colour=False))
    assert "errors" in str(written(view(looks()["trouble"], 150, 45, seen=seen), colour=False))
    assert "errors" in str(written(view(looks()["well"], 150, 45, seen=seen), colour=False))


def test_hostile_names_and_errors_are_shown_as_escapes() -> None:
    evil = "x\x1b[2J\u202e\r\nforged"
    look = a_look([evil], {evil: {"errors": 9, "handled": 0, "error_streak": 9, "dead": 2, "error": evil}})
    text = "\n".join(written(view(look, 100, 30, seen=set()), colour=False))
    assert not {character for character in text if is_obeyed(character)} - {"\n"}
    assert "forged" in text


def test_nothing_is_called_healthy_with_a_kill_switch_pulled_or_agents_that_fail() -> None:
    for width, height in (*SIZES, (None, None)):
        shown = written(view(looks()["trouble"], width, height, seen=set()), colour=False)
        assert not any("healthy" in line for line in shown)
        assert "the firm is halted by ann: drawdown of 5 % in an hour" in shown[2]
        assert any("strategy_07 fails 82% of its calls" in line for line in shown)
