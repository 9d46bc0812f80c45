"""`--help` of every verb and group fits a terminal of 80 columns, and no summary is cut."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from openoutcry.cli import main


def commands(
    group: click.Group, before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield before, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


ALL = dict(commands(main))


def shown(words: tuple[str, ...]) -> str:
    result = CliRunner().invoke(main, [*words, "--help"], terminal_width=80, max_content_width=80)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize(
    "words", [words for words, it in ALL.items() if isinstance(it, click.Group)], ids=str
)
def test_every_summary_fits_its_line(words: tuple[str, ...]) -> None:
    group = ALL[words]
    assert isinstance(group, click.Group)
    text = shown(words)
    rows = text.partition("Commands:\n")[2].splitlines()
    assert len(rows) == len(group.commands), "a summary takes one line"
    for row, (name, command) in zip(rows, sorted(group.commands.items()), strict=True):
        assert row.split()[0] == name
        assert not row.endswith("...")
        assert len(row) <= 80
        assert command.help is not None
        assert " ".join(command.help.split()).startswith(row.split(maxsplit=1)[1])


@pytest.mark.parametrize(
    "words", sorted(set(ALL) - {("bench",)}), ids=" ".join
)  # its help is the benchmarks' own
def test_no_help_is_wider_than_80_columns_and_every_option_says_what_it_does(words: tuple[str, ...]) -> None:
    assert max(map(len, shown(words).splitlines())) <= 80
    for option in ALL[words].params:
        assert not isinstance(option, click.Option) or option.help, option.name
